//! SignedData of RFC 5652, in the one shape that identity documents have: the content inside, one signer, its certificate
//! left to the verifier to bring.

use aws_lc_rs::digest;
use inborn_identity::UnixTime;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, Tag};

use crate::AuthorityError;
use crate::certificate::{Certificate, date_time};
use crate::rsa::RsaKey;

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const CONTENT_TYPE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 4];
const SIGNING_TIME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 5];
const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const SHA_256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

/// UTCTime ends with 2049 (RFC 5652 section 11.3).
const UTC_TIME_YEARS: core::ops::Range<i32> = 1950..2050;

/// Signs `content` with the key of `certificate`, and wraps both, DER.
pub(crate) fn sign(
    content: &[u8],
    key: &RsaKey,
    certificate: &Certificate,
    now: UnixTime,
) -> Result<Vec<u8>, AuthorityError> {
    let digest = digest::digest(&digest::SHA256, content);
    let attributes = yasna::construct_der(|writer| signed_attributes(writer, digest.as_ref(), now));
    let signature = key.sign_pkcs1(&attributes)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|info| {
            oid(info.next(), SIGNED_DATA);
            info.next().write_tagged(Tag::context(0), |writer| {
                writer.write_sequence(|signed| {
                    signed.next().write_u8(1);
                    signed.next().write_set_of(|set| algorithm(set.next(), SHA_256));
                    signed.next().write_sequence(|encapsulated| {
                        oid(encapsulated.next(), DATA);
                        encapsulated.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
                    });
                    signed.next().write_set_of(|set| signer(set.next(), certificate, &attributes, &signature));
                });
            });
        });
    }))
}

fn signer(writer: DERWriter<'_>, certificate: &Certificate, attributes: &[u8], signature: &[u8]) {
    writer.write_sequence(|signer| {
        signer.next().write_u8(1);
        signer.next().write_sequence(|identifier| {
            identifier.next().write_der(&certificate.issuer);
            identifier.next().write_der(&certificate.serial);
        });
        algorithm(signer.next(), SHA_256);
        // Signed as a SET, sent as [0] (RFC 5652 section 5.4).
        let mut tagged = attributes.to_vec();
        if let Some(tag) = tagged.first_mut() {
            *tag = 0xa0;
        }
        signer.next().write_der(&tagged);
        algorithm(signer.next(), RSA_ENCRYPTION);
        signer.next().write_bytes(signature);
    });
}

/// What EC2's have, too: content type, signing time, digest.
fn signed_attributes(writer: DERWriter<'_>, digest: &[u8], now: UnixTime) {
    writer.write_set_of(|set| {
        attribute(set.next(), CONTENT_TYPE, |value| oid(value, DATA));
        attribute(set.next(), SIGNING_TIME, |value| {
            let time = date_time(now);
            if UTC_TIME_YEARS.contains(&time.year()) {
                value.write_utctime(&UTCTime::from_datetime(time));
            } else {
                value.write_generalized_time(&GeneralizedTime::from_datetime(time));
            }
        });
        attribute(set.next(), MESSAGE_DIGEST, |value| value.write_bytes(digest));
    });
}

fn attribute(writer: DERWriter<'_>, kind: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|attribute| {
        oid(attribute.next(), kind);
        attribute.next().write_set_of(|set| value(set.next()));
    });
}

fn algorithm(writer: DERWriter<'_>, kind: &[u64]) {
    writer.write_sequence(|algorithm| {
        oid(algorithm.next(), kind);
        algorithm.next().write_null();
    });
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}
