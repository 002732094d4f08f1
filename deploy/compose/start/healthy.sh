#!/usr/bin/env bash
# healthy.sh PORT [PATH]: exits with 0 if a local server listens on the port, and responds to the path with 200.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/$1"
[ $# -eq 1 ] && exit 0
printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3
read -r -t 10 _ code _ <&3
[ "$code" = 200 ]
