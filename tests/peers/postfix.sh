#!/bin/sh
# Starts a Postfix of its own for a test: config, queue and log in one folder, which already holds cert.pem and key.pem.
# STARTTLS and AUTH (PLAIN, LOGIN) on the first port; TLS from the first byte, and a limit of 1 MiB, on the second. Mail
# that is taken goes on to an SMTP server at the third. Needs root and the packages postfix, libsasl2-modules and
# sasl2-bin. `postfix -c FOLDER/etc stop` ends it.
#
#   postfix.sh FOLDER PORT TLS_PORT ONWARD_PORT USER PASSWORD
set -eu
folder=$1 port=$2 tls_port=$3 onward=$4 user=$5 password=$6
etc=$folder/etc
mkdir -p "$etc/sasl" "$folder/spool" "$folder/data"
chown postfix "$folder/data"
chmod 755 "$folder"
cp -n /etc/postfix/postfix-files /etc/postfix/dynamicmaps.cf "$etc/" 2>/dev/null || true
cp -rn /etc/postfix/postfix-files.d /etc/postfix/dynamicmaps.cf.d "$etc/" 2>/dev/null || true
# Delivery reports are made here (the next server is not asked for them), so that a test sees real ones.
cat > "$etc/main.cf" <<EOF
compatibility_level = 3.6
queue_directory = $folder/spool
data_directory = $folder/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.postern.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
maillog_file = $folder/mail.log
maillog_file_prefixes = /var, $folder
mynetworks =
default_transport = smtp:[127.0.0.1]:$onward
smtp_tls_security_level = none
smtp_discard_ehlo_keywords = dsn
smtp_connection_cache_on_demand = no
in_flow_delay = 0
smtputf8_enable = yes
smtpd_tls_cert_file = $folder/cert.pem
smtpd_tls_key_file = $folder/key.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = $etc/sasl
smtpd_sasl_local_domain = test
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ {later@example.org=450 4.7.1 try later} {nobody@example.org=550 5.1.1 no such user} }, permit_sasl_authenticated, reject
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 200
smtpd_error_sleep_time = 0
message_size_limit = 16777216
EOF
cat > "$etc/master.cf" <<EOF
127.0.0.1:$port inet n - n - - smtpd
127.0.0.1:$tls_port inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o message_size_limit=1048576
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
EOF
cat > "$etc/sasl/smtpd.conf" <<EOF
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $etc/sasldb2
mech_list: PLAIN LOGIN
EOF
printf %s "$password" | saslpasswd2 -c -p -f "$etc/sasldb2" -u test "$user"
chown postfix "$etc/sasldb2"
postfix -c "$etc" start
