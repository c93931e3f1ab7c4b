#!/bin/sh
# Publishes every .pub file of a directory by PutEC2HostKeys, or asks for them by GetEC2HostKeys, in the form of the shell
# script that AWS's package had until 2022: a body built of strings, a signature made by openssl, sent by curl. Three headers
# are signed; the target and the hash of the body are sent and not signed.
#
#   harvest.sh Put|Get DIRECTORY [INSTANCE]     prints the status and the body
set -eu
operation=${1}EC2HostKeys directory=$2

metadata=http://169.254.169.254/latest
token=$(curl -sS -f -m 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
get() { curl -sS -f -m 10 -H "X-aws-ec2-metadata-token: $token" "$metadata/$1"; }

instance=${3:-$(get meta-data/instance-id/)}
zone=$(get meta-data/placement/availability-zone/)
region=${zone%?}
host=ec2-instance-connect.$region.$(get meta-data/services/domain/)
account=$(get dynamic/instance-identity/document | sed -n 's/.*"accountId" : "\([0-9]*\)".*/\1/p')
document=$(get meta-data/identity-credentials/ec2/security-credentials/ec2-instance/)
field() { printf '%s\n' "$document" | sed -n "s/.*\"$1\" : \"\(.*\)\",.*/\1/p"; }
session=$(field Token)

keys=
if [ "$1" = Put ]; then
  for file in "$directory"/*.pub; do
    keys="$keys${keys:+,}\"$(cat "$file")\""
  done
  keys="\"HostKeys\":[$keys],"
fi
body="{\"AccountID\":\"$account\",\"AvailabilityZone\":\"$zone\",$keys\"InstanceId\":\"$instance\"}"

hash() { openssl dgst -sha256 | sed 's/^.* //'; }
mac() { printf '%s' "$2" | openssl dgst -sha256 -mac HMAC -macopt "$1" | sed 's/^.* //'; }
now=$(date -u +%Y%m%dT%H%M%SZ) day=$(date -u +%Y%m%d)
scope=$day/$region/ec2-instance-connect/aws4_request
signed='host;x-amz-date;x-amz-security-token'
body_hash=$(printf '%s' "$body" | hash)
canonical=$(printf 'POST\n/%s/\n\nhost:%s\nx-amz-date:%s\nx-amz-security-token:%s\n\n%s\n%s' \
  "$operation" "$host" "$now" "$session" "$signed" "$body_hash")
to_sign=$(printf 'AWS4-HMAC-SHA256\n%s\n%s\n%s' "$now" "$scope" "$(printf '%s' "$canonical" | hash)")
key=$(mac "key:AWS4$(field SecretAccessKey)" "$day")
for word in "$region" ec2-instance-connect aws4_request; do
  key=$(mac "hexkey:$key" "$word")
done
signature=$(mac "hexkey:$key" "$to_sign")

curl -sS -m 20 -w '\n%{http_code}\n' -X POST "https://$host/$operation/" \
  -H 'Content-Type: application/json' -H 'Content-Encoding: amz-1.0' \
  -H "x-amz-target: com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.$operation" \
  -H "x-amz-content-sha256: $body_hash" -H "x-amz-date: $now" -H "x-amz-security-token: $session" \
  -H "Authorization: AWS4-HMAC-SHA256 Credential=$(field AccessKeyId)/$scope, SignedHeaders=$signed, Signature=$signature" \
  -d "$body"
