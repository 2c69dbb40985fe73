#!/bin/sh
# Runs an Exim of its own for a test, in the foreground: config, spool and log in one folder, which already holds cert.pem
# and key.pem. STARTTLS and AUTH (PLAIN, LOGIN) on the first port; TLS from the first byte, and a limit of 1 MiB, on the
# second. It offers no SMTPUTF8. Mail that is taken goes on to an SMTP server at the third port; Exim does not
# announce 8-bit content to it. Needs root and the user Debian-exim, which Debian's Exim is built to run as.
#
#   exim.sh EXIM FOLDER PORT TLS_PORT ONWARD_PORT USER PASSWORD
set -eu
exim=$1 folder=$2 port=$3 tls_port=$4 onward=$5 user=$6 password=$7
mkdir -p "$folder/spool" "$folder/log"
chown Debian-exim:Debian-exim "$folder/spool" "$folder/log" "$folder/key.pem"
chmod 755 "$folder"
cat > "$folder/exim.conf" <<EOF
exim_path = $exim
primary_hostname = exim.postern.test
spool_directory = $folder/spool
log_file_path = $folder/log/%s
pid_file_path = $folder/exim.pid
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port : $tls_port
tls_on_connect_ports = $tls_port
tls_advertise_hosts = *
tls_certificate = $folder/cert.pem
tls_privatekey = $folder/key.pem
auth_advertise_hosts = \${if def:tls_in_cipher{*}{}}
smtputf8_advertise_hosts =
dsn_advertise_hosts = *
message_size_limit = \${if eq{\$received_port}{$tls_port}{1M}{16M}}
host_lookup =
rfc1413_hosts =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = recipient
acl_smtp_data = accept

begin acl
recipient:
  require authenticated = *
  deny message = 550 5.1.1 no such user
    condition = \${if eq{\$local_part@\$domain}{nobody@example.org}}
  defer message = 450 4.7.1 try later
    condition = \${if eq{\$local_part@\$domain}{later@example.org}}
  accept

begin routers
onward:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = onward

begin transports
onward:
  driver = smtp
  port = $onward
  hosts_avoid_tls = *
  hosts_try_fastopen =
  hosts_try_chunking =
  hosts_try_prdr =

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = \${if and{{eq{\$auth2}{$user}}{eq{\$auth3}{$password}}}}
  server_set_id = \$auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = \${if and{{eq{\$auth1}{$user}}{eq{\$auth2}{$password}}}}
  server_set_id = \$auth1
EOF
exec "$exim" -C "$folder/exim.conf" -bdf -q1m
