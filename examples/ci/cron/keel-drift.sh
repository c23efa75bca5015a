#!/bin/sh
# Prints the drift report where there is drift, and nothing where there is none.
#
#   keel-drift.sh SOURCE
#
# Ends with 0 in both cases: what is printed is what cron mails.
set -u
code=0
report=$(keel drift --detailed-exitcode "$1" 2>&1) || code=$?
case $code in
  0) ;;
  2) printf '%s\n' "$report" ;;
  *)
    printf '%s\n' "$report" "keel drift ended with $code"
    exit "$code"
    ;;
esac
