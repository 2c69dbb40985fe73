"""An OAuth server on Authlib and Flask to sign in at: python authlib_server.py SETTINGS, the settings as JSON: redirect,
client_id, client_secret, scopes. Writes a line of JSON with its URL once it listens, and ends when its input does.
"""

import json
import os
import secrets
import sys
import threading
import time

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict
from flask import Flask, jsonify, request
from markupsafe import escape
from werkzeug.serving import make_server

WANTED = json.loads(sys.argv[1])
CODES, TOKENS, DEVICES = {}, [], {}


class Client(ClientMixin):
    client_id = WANTED["client_id"]

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return WANTED["redirect"]

    def get_allowed_scope(self, scope):
        return " ".join(one for one in (scope or "").split() if one in WANTED["scopes"])

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri == WANTED["redirect"]

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(client_secret, WANTED["client_secret"])

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_post"

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return True


class Code(dict, AuthorizationCodeMixin):
    def get_redirect_uri(self):
        return self["redirect_uri"]

    def get_scope(self):
        return self["scope"]


class Token(dict, TokenMixin):
    def check_client(self, client):
        return client.client_id == self["client_id"]

    def get_scope(self):
        return self["scope"]

    def get_expires_in(self):
        return self["expires_in"]

    def is_revoked(self):
        return self.get("revoked", False)

    def get_user(self):
        return self["user"]

    def get_client(self):
        return CLIENT


class ByCode(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_post"]

    def save_authorization_code(self, code, request):
        data = request.payload.data
        CODES[code] = Code(
            user=request.user,
            redirect_uri=request.payload.redirect_uri,
            scope=request.payload.scope,
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )
        for name in ("code_challenge", "code_challenge_method"):
            setattr(CODES[code], name, data.get(name))

    def query_authorization_code(self, code, client):
        return CODES.get(code)

    def delete_authorization_code(self, authorization_code):
        for code in [code for code, kept in CODES.items() if kept is authorization_code]:
            del CODES[code]

    def authenticate_user(self, authorization_code):
        return authorization_code["user"]


class ByRefresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_post"]
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        found = [token for token in TOKENS if token["refresh_token"] == refresh_token and not token.is_revoked()]
        return found[0] if found else None

    def authenticate_user(self, refresh_token):
        return refresh_token["user"]

    def revoke_old_credential(self, refresh_token):
        refresh_token["revoked"] = True


class ByDevice(DeviceCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_post"]

    def query_device_credential(self, device_code):
        return DEVICES.get(device_code, {}).get("credential")

    def query_user_grant(self, user_code):
        found = [device for device in DEVICES.values() if device["user_code"] == user_code]
        return found[0].get("decided") if found else None

    def should_slow_down(self, credential):
        device = DEVICES[credential["device_code"]]
        asked, device["asked"] = device.get("asked", 0.0), time.monotonic()
        # A little less than it said, for what is under way.
        return device["asked"] - asked < 0.5


class Devices(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_post"]
    EXPIRES_IN = WANTED.get("device_life", 600)
    INTERVAL = 1

    def get_verification_uri(self):
        return request.host_url + "device"

    def save_device_credential(self, client_id, scope, data):
        credential = DeviceCredentialDict(
            client_id=client_id, scope=scope, expires_at=time.time() + data["expires_in"], **data
        )
        DEVICES[data["device_code"]] = {"credential": credential, "user_code": data["user_code"]}


def save_token(token, request):
    refresh_token = token.get("refresh_token") or secrets.token_urlsafe(32)
    token["refresh_token"] = refresh_token
    TOKENS.append(Token(token, client_id=request.client.client_id, user=request.user))


CLIENT = Client()
APP = Flask("authlib-server")
APP.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
SERVER = AuthorizationServer(
    APP, query_client=lambda client_id: CLIENT if client_id == CLIENT.client_id else None, save_token=save_token
)
SERVER.register_grant(ByCode, [CodeChallenge(required=True)])
SERVER.register_grant(ByRefresh)
SERVER.register_grant(ByDevice)
SERVER.register_endpoint(Devices)

FORM = """<!DOCTYPE html><form method="post" action="{action}"><input name="login"><input name="user_code" value="{code}">
<button name="decision" value="allow">Allow</button><button name="decision" value="decline">Decline</button></form>"""


@APP.route("/authorize", methods=["GET", "POST"])
def authorize():
    try:
        grant = SERVER.get_consent_grant(end_user=None)
    except OAuth2Error as error:
        return jsonify(dict(error.get_body())), 400
    if request.method == "GET":
        return FORM.format(action=escape(request.full_path), code="")
    user = request.form["login"] if request.form["decision"] == "allow" else None
    return SERVER.create_authorization_response(request, grant_user=user, grant=grant)


@APP.route("/device", methods=["GET", "POST"])
def device():
    if request.method == "GET":
        return FORM.format(action="/device", code="")
    found = [device for device in DEVICES.values() if device["user_code"] == request.form["user_code"]]
    if not found:
        return "no such code", 400
    found[0]["decided"] = (request.form["login"], request.form["decision"] == "allow")
    return "done"


@APP.post("/token")
def token():
    return SERVER.create_token_response()


@APP.post("/devicecode")
def device_code():
    return SERVER.create_endpoint_response(Devices.ENDPOINT_NAME)


@APP.get("/control/tokens")
def tokens():
    return jsonify([token["access_token"] for token in TOKENS])


@APP.get("/control/revoke")
def revoke():
    for one in TOKENS:
        one["revoked"] = True
    return jsonify([])


if __name__ == "__main__":
    serving = make_server("127.0.0.1", 0, APP, threaded=True)
    print(json.dumps({"url": f"http://127.0.0.1:{serving.server_port}"}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    serving.serve_forever()
