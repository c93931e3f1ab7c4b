//! OCSP responses (RFC 6960) in the one shape that Instance Connect wants: "good", of one certificate, signed by its issuer
//! itself, made ahead and stapled. Both sides of it.

use aws_lc_rs::digest;
use inborn_identity::UnixTime;
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::SignatureVerificationAlgorithm;
use yasna::models::{GeneralizedTime, ObjectIdentifier};
use yasna::{ASN1Result, BERReader, BERReaderSeq, DERWriter, Tag};

use crate::AuthorityError;
use crate::certificate::{BACKDATE_SECONDS, Certificate, date_time};

const BASIC_RESPONSE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 1];
const SHA_1: &[u64] = &[1, 3, 14, 3, 2, 26];
const ECDSA_WITH_SHA_256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];
const SUCCESSFUL: i64 = 0;
const SEQUENCE: u8 = 0x30;

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

/// Checks that `response`, DER, says of `certificate` that it is good at the moment `now`, in the name of its `issuer` and
/// with the signature of its key by one of `algorithms`. The error says what is wrong.
pub(crate) fn check(
    response: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<(), &'static str> {
    let basic = yasna::parse_der(response, read_response).map_err(|_| "the staple is no successful OCSP response")?;
    let Basic { data, algorithm, signature } =
        yasna::parse_der(&basic, read_basic).map_err(|_| "the staple is no basic OCSP response")?;
    let is_by = |with: &&&dyn SignatureVerificationAlgorithm| {
        Some(with.signature_alg_id().as_ref()) == content(&algorithm)
            && Some(with.public_key_alg_id().as_ref()) == content(&issuer.key_algorithm)
    };
    let with = algorithms.iter().find(is_by).ok_or("the staple is signed in another way than its issuer signs")?;
    with.verify_signature(&issuer.public_key, &data, &signature)
        .map_err(|_| "the staple is not signed by the issuer of the certificate")?;
    let singles = yasna::parse_der(&data, read_data).map_err(|_| "the staple cannot be read")?;
    let is_meant = |single: &&Single| {
        single.issuer_name_hash == sha1(&issuer.subject).as_ref()
            && single.issuer_key_hash == sha1(&issuer.public_key).as_ref()
            && single.serial == certificate.serial
    };
    let single = singles.iter().find(is_meant).ok_or("the staple is that of another certificate")?;
    if !single.is_good {
        return Err("the staple does not say that the certificate is good");
    }
    if now < single.begin || single.end.is_none_or(|end| now >= end) {
        return Err("the staple is not of this time: is the clock right?");
    }
    Ok(())
}

struct Basic {
    /// What is signed, DER.
    data: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

/// What a response says of one certificate.
struct Single {
    issuer_name_hash: Vec<u8>,
    issuer_key_hash: Vec<u8>,
    /// The INTEGER, DER.
    serial: Vec<u8>,
    is_good: bool,
    begin: UnixTime,
    end: Option<UnixTime>,
}

fn read_response(reader: BERReader<'_, '_>) -> ASN1Result<Vec<u8>> {
    reader.read_sequence(|response| {
        if response.next().read_enum()? != SUCCESSFUL {
            return Err(yasna::ASN1Error::new(yasna::ASN1ErrorKind::Invalid));
        }
        response.next().read_tagged(Tag::context(0), |bytes| {
            bytes.read_sequence(|bytes| {
                if bytes.next().read_oid()? != ObjectIdentifier::from_slice(BASIC_RESPONSE) {
                    return Err(yasna::ASN1Error::new(yasna::ASN1ErrorKind::Invalid));
                }
                bytes.next().read_bytes()
            })
        })
    })
}

fn read_basic(reader: BERReader<'_, '_>) -> ASN1Result<Basic> {
    reader.read_sequence(|basic| {
        let (data, algorithm) = (basic.next().read_der()?, basic.next().read_der()?);
        let (signature, bits) = basic.next().read_bitvec_bytes()?;
        // A signature is whole bytes: one that leaves bits out is another encoding of the same.
        if bits != signature.len() * 8 {
            return Err(yasna::ASN1Error::new(yasna::ASN1ErrorKind::Invalid));
        }
        // Certificates of a delegated responder: nobody here believes one.
        skip_the_rest(basic)?;
        Ok(Basic { data, algorithm, signature })
    })
}

fn read_data(reader: BERReader<'_, '_>) -> ASN1Result<Vec<Single>> {
    reader.read_sequence(|data| {
        data.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_der()))?;
        // Who answers is told by the signature, and when he did by the times below.
        data.next().read_der()?;
        data.next().read_generalized_time()?;
        let singles = data.next().collect_sequence_of(read_single)?;
        skip_the_rest(data)?;
        Ok(singles)
    })
}

fn read_single(reader: BERReader<'_, '_>) -> ASN1Result<Single> {
    reader.read_sequence(|single| {
        let (issuer_name_hash, issuer_key_hash, serial) = single.next().read_sequence(|identifier| {
            // Of whatever algorithm: a hash that is not SHA-1 fits nothing.
            identifier.next().read_der()?;
            Ok((identifier.next().read_bytes()?, identifier.next().read_bytes()?, identifier.next().read_der()?))
        })?;
        let status = single.next();
        let is_good = status.lookahead_tag()? == Tag::context(0);
        status.read_der()?;
        let begin = unix_time(&single.next().read_generalized_time()?);
        let end = single.read_optional(|next| {
            next.read_tagged(Tag::context(0), |next| Ok(unix_time(&next.read_generalized_time()?)))
        })?;
        skip_the_rest(single)?;
        Ok(Single { issuer_name_hash, issuer_key_hash, serial, is_good, begin, end })
    })
}

pub(crate) fn skip_the_rest(sequence: &mut BERReaderSeq<'_, '_>) -> ASN1Result<()> {
    while sequence.read_optional(|rest| rest.read_der())?.is_some() {}
    Ok(())
}

fn unix_time(time: &GeneralizedTime) -> UnixTime {
    UnixTime::from_secs(u64::try_from(time.datetime().unix_timestamp()).unwrap_or_default())
}

/// What is inside a short SEQUENCE, such as an AlgorithmIdentifier.
fn content(element: &[u8]) -> Option<&[u8]> {
    match element {
        [SEQUENCE, length, content @ ..] if usize::from(*length) == content.len() && *length < 0x80 => Some(content),
        _ => None,
    }
}

fn sha1(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}
