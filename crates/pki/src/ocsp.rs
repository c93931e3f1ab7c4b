//! OCSP responses (RFC 6960) in the one shape that Instance Connect wants: "good", of one certificate, signed by its issuer
//! itself, made ahead and stapled.

use aws_lc_rs::digest;
use inborn_identity::UnixTime;
use rcgen::{KeyPair, SigningKey};
use yasna::models::{GeneralizedTime, ObjectIdentifier};
use yasna::{DERWriter, Tag};

use crate::AuthorityError;
use crate::certificate::{BACKDATE_SECONDS, Certificate, date_time};

const BASIC_RESPONSE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 1];
const SHA_1: &[u64] = &[1, 3, 14, 3, 2, 26];
const ECDSA_WITH_SHA_256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];
const SUCCESSFUL: i64 = 0;

/// How long a response is good.
pub(crate) const LIFE_SECONDS: u64 = 7 * 86_400;

/// Says that `certificate` is good, in the name of its `issuer`, whose P-256 key is `key`. DER.
pub(crate) fn good(
    certificate: &Certificate,
    issuer: &Certificate,
    key: &KeyPair,
    now: UnixTime,
) -> Result<Vec<u8>, AuthorityError> {
    let data = yasna::construct_der(|writer| response_data(writer, certificate, issuer, now));
    let signature = key.sign(&data)?;
    let basic = yasna::construct_der(|writer| {
        writer.write_sequence(|basic| {
            basic.next().write_der(&data);
            basic.next().write_sequence(|algorithm| oid(algorithm.next(), ECDSA_WITH_SHA_256));
            basic.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|response| {
            response.next().write_enum(SUCCESSFUL);
            response.next().write_tagged(Tag::context(0), |writer| {
                writer.write_sequence(|bytes| {
                    oid(bytes.next(), BASIC_RESPONSE);
                    bytes.next().write_bytes(&basic);
                });
            });
        });
    }))
}

fn response_data(writer: DERWriter<'_>, certificate: &Certificate, issuer: &Certificate, now: UnixTime) {
    let issuer_key = sha1(&issuer.public_key);
    let begin = GeneralizedTime::from_datetime(date_time(now.minus(BACKDATE_SECONDS)));
    let end = GeneralizedTime::from_datetime(date_time(now.plus(LIFE_SECONDS)));
    writer.write_sequence(|data| {
        data.next().write_tagged(Tag::context(2), |by_key| by_key.write_bytes(issuer_key.as_ref()));
        data.next().write_generalized_time(&begin);
        data.next().write_sequence(|responses| {
            responses.next().write_sequence(|single| {
                single.next().write_sequence(|identifier| {
                    // OpenSSL asks with SHA-1 unless told otherwise, and finds only what has the same hashes.
                    identifier.next().write_sequence(|algorithm| {
                        oid(algorithm.next(), SHA_1);
                        algorithm.next().write_null();
                    });
                    identifier.next().write_bytes(sha1(&issuer.subject).as_ref());
                    identifier.next().write_bytes(issuer_key.as_ref());
                    identifier.next().write_der(&certificate.serial);
                });
                single.next().write_tagged_implicit(Tag::context(0), |good| good.write_null());
                single.next().write_generalized_time(&begin);
                single.next().write_tagged(Tag::context(0), |next| next.write_generalized_time(&end));
            });
        });
    });
}

fn sha1(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}
