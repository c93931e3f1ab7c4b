#!/bin/sh
# Which keys were sent to a user, as the login script of AWS's package finds it out, in other words: metadata by curl, the
# chain, the staples and the signatures by openssl. Without its look at the DMI, which a pocket has none of.
#
#   login_keys.sh DIRECTORY_OF_CERTIFICATES USER [FINGERPRINT]     prints the keys
#
# Exits with 22 where there are none, 255 where the domain is none of AWS's or no key is good, 1 where the signer is not trusted.
set -eu
trusted=$1 user=$2 wanted=${3:-}

metadata=http://169.254.169.254/latest
token=$(curl -sS -f -m 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
ask() { curl -sS -f -m 10 -H "X-aws-ec2-metadata-token: $token" "$@"; }
get() { ask "$metadata/meta-data/$1"; }
keys=managed-ssh-keys

instance=$(get instance-id/)
ask -o /dev/null -I "$metadata/meta-data/$keys/active-keys/$user/" || exit 22
zone=$(get placement/availability-zone/)
domain=$(get services/domain/)
case $domain in
  amazonaws.com | amazonaws.com.cn | c2s.ic.gov | sc2s.sgov.gov) ;;
  *) echo "domain $domain is none of AWS's" >&2 && exit 255 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
get "$keys/signer-cert/" >chain
awk '/BEGIN CERTIFICATE/ { n++ } { print > sprintf("cert%02d", n) }' chain
last=$(ls cert* | tail -n 1)
name() { openssl x509 -in "$1" -noout -subject -nameopt sep_multiline | sed -n 's/^ *CN *= *//p'; }

# The root is looked for under its own name among what the machine trusts.
root=$trusted/$(name "$last" | tr ' ' '_').pem
[ -f "$root" ] && [ "$(openssl x509 -in "$root" -noout -fingerprint)" = "$(openssl x509 -in "$last" -noout -fingerprint)" ] || {
  echo "the root is not trusted here" >&2 && exit 1
}
[ "$(name cert01)" = "managed-ssh-signer.${zone%?}.$domain" ] || { echo "another signer" >&2 && exit 1; }
openssl verify -x509_strict -CApath "$trusted" -untrusted chain cert01 >/dev/null || exit 1

staples=$(get "$keys/signer-ocsp/")
for certificate in cert*; do
  [ "$certificate" = "$last" ] && break
  issuer=$(ls cert* | sed -n "/^$certificate\$/{n;p;}")
  fingerprint=$(openssl x509 -in "$certificate" -noout -fingerprint -sha1 | sed 's/^.*=//; s/://g')
  printf '%s\n' "$staples" | grep -qx "$fingerprint" || { echo "no staple for $certificate" >&2 && exit 1; }
  get "$keys/signer-ocsp/$fingerprint" | base64 -d >staple
  openssl ocsp -no_nonce -issuer "$issuer" -cert "$certificate" -VAfile "$issuer" -respin staple >status 2>&1 || true
  grep -q "^$certificate: good" status || { cat status >&2 && exit 1; }
done

openssl x509 -in cert01 -noout -pubkey >signer
get "$keys/active-keys/$user/" >blocks
found= now=$(date +%s)
: >lines; : >signature; key= timestamp=0 for=
while IFS= read -r line; do
  case $line in
    '#Timestamp='*) timestamp=${line#*=} ;;
    '#Instance='*) for=${line#*=} ;;
    '#'*) ;;
    ssh-*) key=$line ;;
    '')
      if base64 -d signature >raw 2>/dev/null && [ "$timestamp" -gt "$now" ] && [ "$for" = "$instance" ] &&
        openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -verify signer -signature raw lines >/dev/null &&
        { [ -z "$wanted" ] || [ "$(printf '%s\n' "$key" | ssh-keygen -lf - | cut -d' ' -f2)" = "$wanted" ]; }; then
        printf '%s\n' "$key"
        found=yes
      fi
      : >lines; : >signature; key= timestamp=0 for=
      continue
      ;;
    *)
      printf '%s\n' "$line" >>signature
      continue
      ;;
  esac
  printf '%s\n' "$line" >>lines
done <blocks
[ -n "$found" ] || exit 255
