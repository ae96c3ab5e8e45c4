#!/bin/sh
# Counts the words of a file that the payload names: a task handler as a shell script.
#
#   orchestrator worker --exec wordcount='sh examples/exec/wordcount.sh'
#   orchestrator task submit wordcount --payload '"README.md"'
set -eu
# A string without escapes is all that is understood of JSON here.
read -r payload
file=${payload#\"}
file=${file%\"}
[ -f "$file" ] || { echo "there is no file $file" >&2; exit 65; }
wc -w < "$file"
