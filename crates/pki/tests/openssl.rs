//! What the `openssl` program says of what we sign: it is the verifier that AWS documents and that guests have.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use inborn_identity::{Region, UnixTime};
use inborn_pki::{Authority, CertificateSummary, DocumentSigner, InstanceConnectSigner};

const DOMAIN: &str = "amazonaws.com";
const DOCUMENT: &str = "{\n  \"accountId\" : \"123456789012\",\n  \"version\" : \"2017-09-30\"\n}";
const BLOCK: &str = "#Timestamp=1800000060\n#Instance=i-0123456789abcdef0\n#Caller=arn:aws:iam::123456789012:user/a\n\
                     #Request=2\nssh-ed25519 AAAA a\n";

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

/// `openssl` looks at the machine's clock, so what it judges is made around it.
#[allow(clippy::disallowed_methods, reason = "the program's own clock is what is being met here")]
fn today() -> UnixTime {
    UnixTime::from_secs(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

/// A directory with the files of one test.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `openssl` with words separated by blanks, in the directory.
    fn openssl(&self, words: &str) -> Output {
        Command::new("openssl").args(words.split_whitespace()).current_dir(self.0.path()).output().unwrap_or_else(
            |error| panic!("these tests need the program openssl (Debian: apt-get install openssl): {error}"),
        )
    }

    #[track_caller]
    fn accepts(&self, words: &str) -> Vec<u8> {
        let output = self.openssl(words);
        assert!(output.status.success(), "openssl {words}\n{}", said(&output));
        output.stdout
    }

    /// The subject's, in the one form that all versions of OpenSSL print alike.
    fn common_name(&self, certificate: &str) -> String {
        let words = format!("x509 -in {certificate} -noout -subject -nameopt RFC2253");
        let subject = String::from_utf8(self.accepts(&words)).unwrap();
        subject.trim_end().split_once("CN=").unwrap().1.split(',').next().unwrap().to_owned()
    }

    #[track_caller]
    fn refuses(&self, words: &str, reason: &str) {
        let output = self.openssl(words);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(reason), "openssl {words}\n{said}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a verifier on EC2 makes of the leaf: AWS documents it so.
fn armoured(base64: &str) -> String {
    format!("-----BEGIN PKCS7-----\n{base64}\n-----END PKCS7-----\n")
}

/// Another text of the same length, as somebody might wish it were.
fn forged(text: &str) -> String {
    text.replacen('1', "2", 1)
}

#[test]
fn a_documents_signatures_verify_and_a_forgery_does_not() {
    let now = today();
    let (signer, sealable) = DocumentSigner::create(&region(), now).unwrap();
    let signed = signer.sign(DOCUMENT.as_bytes(), now).unwrap();
    assert_eq!(
        DocumentSigner::restore(&sealable).unwrap().sign(DOCUMENT.as_bytes(), now).unwrap(),
        signed,
        "a restart changes nothing"
    );
    let desk = Desk::new();
    desk.put("certificate", signer.certificate_pem()).put("document", DOCUMENT).put("forged", forged(DOCUMENT));
    desk.put("signature.b64", format!("{}\n", signed.signature)).put("pkcs7", armoured(&signed.pkcs7));
    desk.accepts("x509 -in certificate -pubkey -noout -out key");
    desk.accepts("base64 -d -in signature.b64 -out signature");
    desk.accepts("dgst -sha256 -verify key -signature signature document");
    desk.refuses("dgst -sha256 -verify key -signature signature forged", "Verification failure");
    let inside = desk.accepts("smime -verify -in pkcs7 -inform PEM -certfile certificate -noverify");
    assert_eq!(inside, DOCUMENT.as_bytes());
    assert_eq!(desk.accepts("cms -verify -in pkcs7 -inform PEM -certfile certificate -noverify -binary"), inside);
    assert_eq!(desk.accepts("smime -verify -in pkcs7 -inform PEM -certfile certificate -CAfile certificate"), inside);

    desk.accepts("base64 -d -in signature.b64 -out der");
    let other = DocumentSigner::create(&region(), now).unwrap().0;
    desk.put("other", other.certificate_pem());
    desk.refuses("smime -verify -in pkcs7 -inform PEM -certfile other -noverify", "signer certificate not found");
    desk.put("swapped", swap_document(&signed.pkcs7));
    desk.refuses("smime -verify -in swapped -inform DER -certfile certificate -noverify", "digest failure");
}

/// The container with another document of the same length in it.
fn swap_document(pkcs7: &str) -> Vec<u8> {
    use base64::Engine;
    let mut der = base64::engine::general_purpose::STANDARD.decode(pkcs7.replace('\n', "")).unwrap();
    let at = der.windows(DOCUMENT.len()).position(|window| window == DOCUMENT.as_bytes()).unwrap();
    der[at..at + DOCUMENT.len()].copy_from_slice(forged(DOCUMENT).as_bytes());
    der
}

#[test]
fn the_certificate_of_a_region_says_what_it_is_for() {
    let signer = DocumentSigner::create(&region(), today()).unwrap().0;
    let desk = Desk::new();
    desk.put("certificate", signer.certificate_pem());
    assert_eq!(desk.common_name("certificate"), "Inborn identity documents us-east-1");
    let text = String::from_utf8(desk.accepts("x509 -in certificate -noout -text")).unwrap();
    for line in ["Public-Key: (2048 bit)", "CA:FALSE", "Digital Signature"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_summary_says_what_openssl_says() {
    let signer = InstanceConnectSigner::create(&region(), DOMAIN, today()).unwrap().0;
    let summaries = CertificateSummary::of(signer.chain_pem()).unwrap();
    assert_eq!(summaries.len(), 2);
    let desk = Desk::new();
    desk.put("root", signer.root_pem());
    assert_eq!(summaries[1].name, desk.common_name("root"));
    let fingerprint = String::from_utf8(desk.accepts("x509 -in root -noout -fingerprint -sha256")).unwrap();
    assert_eq!(fingerprint.trim_end().split_once('=').unwrap().1, summaries[1].fingerprint);
    assert!(CertificateSummary::of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}

#[test]
fn the_authority_passes_the_strict_check() {
    let authority = Authority::create(&region(), DOMAIN, today()).unwrap().0;
    let desk = Desk::new();
    desk.put("ca.pem", authority.certificate_pem());
    desk.accepts("verify -x509_strict -CAfile ca.pem ca.pem");
}

/// The calls of the Instance Connect script.
#[test]
fn a_block_of_keys_verifies_up_to_the_root() {
    let now = today();
    let (signer, sealable) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let signer_again = InstanceConnectSigner::restore(&region(), DOMAIN, &sealable).unwrap();
    assert_eq!(signer.chain_pem(), signer_again.chain_pem());
    let desk = Desk::new();
    let (leaf, root) = signer.chain_pem().split_at(signer.chain_pem().rfind("-----BEGIN").unwrap());
    assert_eq!(root, signer.root_pem());
    desk.put("leaf", leaf).put("root", root).put("block", BLOCK).put("forged", forged(BLOCK));

    desk.accepts("verify -x509_strict -CAfile root leaf");
    assert_eq!(desk.common_name("leaf"), "managed-ssh-signer.us-east-1.amazonaws.com");

    let staples = signer.staples(now).unwrap();
    let fingerprint = String::from_utf8(desk.accepts("x509 -in leaf -noout -fingerprint")).unwrap();
    let fingerprint = fingerprint.trim_end().split_once('=').unwrap().1.replace(':', "");
    assert_eq!(staples.len(), 1, "one for every certificate but the last");
    assert_eq!(staples[0].fingerprint, fingerprint);
    desk.put("staple.b64", format!("{}\n", staples[0].response));
    desk.accepts("base64 -d -A -in staple.b64 -out staple");
    let said =
        String::from_utf8(desk.accepts("ocsp -no_nonce -issuer root -cert leaf -VAfile root -respin staple")).unwrap();
    assert!(said.contains("leaf: good"), "{said}");

    desk.put("signature.b64", format!("{}\n", signer.sign(BLOCK).unwrap()));
    desk.accepts("base64 -d -A -in signature.b64 -out signature");
    desk.accepts("x509 -in leaf -pubkey -noout -out key");
    let check = "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -verify key -signature signature";
    desk.accepts(&format!("{check} block"));
    desk.refuses(&format!("{check} forged"), "Verification failure");
}

#[test]
fn a_staple_is_of_one_certificate_and_of_its_time() {
    let now = today();
    let (signer, _) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let (other, _) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let desk = Desk::new();
    let leaf = |signer: &InstanceConnectSigner| signer.chain_pem().replace(signer.root_pem(), "");
    desk.put("leaf", leaf(&signer)).put("root", signer.root_pem());
    let check = "ocsp -no_nonce -issuer root -cert leaf -VAfile root -respin staple";
    let staple = |signer: &InstanceConnectSigner, at: UnixTime| {
        desk.put("staple.b64", format!("{}\n", signer.staples(at).unwrap()[0].response));
        desk.accepts("base64 -d -A -in staple.b64 -out staple");
    };
    staple(&other, now);
    let said = said(&desk.openssl(check));
    assert!(!said.contains("leaf: good"), "somebody else's: {said}");
    staple(&signer, now.minus(8 * 86_400));
    let said = self::said(&desk.openssl(check));
    assert!(said.contains("Status times invalid"), "too old: {said}");
}

/// What its owner could do with the root's key, if he meant to: nothing.
#[test]
fn the_instance_connect_root_is_worth_nothing_for_anything_else() {
    let now = today();
    let (signer, sealable) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let desk = Desk::new();
    desk.put("root", signer.root_pem()).put("root.key.der", &*sealable.root.private_key);
    desk.put("leaf", signer.chain_pem().replace(signer.root_pem(), ""));
    desk.accepts("pkey -in root.key.der -inform DER -out root.key");
    desk.accepts("ecparam -name prime256v1 -genkey -noout -out key");
    for (names, reason) in [
        ("DNS:sts.us-east-1.amazonaws.com", "permitted subtree violation"),
        ("DNS:managed-ssh-signer.eu-west-1.amazonaws.com", "permitted subtree violation"),
        ("IP:169.254.169.254", "excluded subtree violation"),
        ("IP:2001:db8::1", "excluded subtree violation"),
    ] {
        desk.put("extensions", format!("subjectAltName={names}\nauthorityKeyIdentifier=keyid\n"));
        desk.accepts("req -new -key key -subj /O=x -out request");
        desk.accepts("x509 -req -in request -CA root -CAkey root.key -days 1 -extfile extensions -out other");
        desk.refuses("verify -CAfile root other", reason);
    }
    desk.refuses("verify -purpose sslserver -CAfile root leaf", "lookup: unsuitable certificate purpose");
    desk.put(
        "extensions",
        "subjectAltName=DNS:managed-ssh-signer.us-east-1.amazonaws.com\nextendedKeyUsage=serverAuth\n",
    );
    desk.accepts("x509 -req -in request -CA root -CAkey root.key -days 1 -extfile extensions -out server");
    desk.refuses("verify -purpose sslserver -CAfile root server", "at 1 depth lookup: unsuitable certificate purpose");
}

#[test]
fn a_signers_certificate_is_renewed_halfway_through_its_life() {
    let now = today();
    let (signer, _) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let due = now.plus(45 * 86_400);
    assert!(signer.renewed(&region(), DOMAIN, due.minus(1)).unwrap().is_none());
    let (renewed, _) = signer.renewed(&region(), DOMAIN, due).unwrap().unwrap();
    assert!(renewed.renewed(&region(), DOMAIN, due).unwrap().is_none());
    assert_eq!(renewed.root_pem(), signer.root_pem());
    assert_ne!(renewed.staples(now).unwrap()[0].fingerprint, signer.staples(now).unwrap()[0].fingerprint);
    let desk = Desk::new();
    desk.put("leaf", renewed.chain_pem().replace(renewed.root_pem(), "")).put("root", renewed.root_pem());
    desk.accepts(&format!("verify -x509_strict -attime {} -CAfile root leaf", due.as_secs()));
}

#[test]
fn guests_keep_the_root_in_a_file_named_after_it() {
    let signer = InstanceConnectSigner::create(&region(), DOMAIN, today()).unwrap().0;
    let name = signer.root_file_name().unwrap();
    let other = InstanceConnectSigner::create(&region(), DOMAIN, today()).unwrap().0;
    assert_ne!(name, other.root_file_name().unwrap(), "two roots of one region need two files");
    let desk = Desk::new();
    desk.put("root", signer.root_pem());
    assert_eq!(desk.common_name("root").replace(' ', "_") + ".pem", name);
}

#[test]
fn what_is_stored_must_fit_together() {
    let now = today();
    let (_, one) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    let (_, mut two) = InstanceConnectSigner::create(&region(), DOMAIN, now).unwrap();
    assert!(InstanceConnectSigner::restore(&region(), "example.com", &two).is_err());
    assert!(InstanceConnectSigner::restore(&"eu-west-1".parse().unwrap(), DOMAIN, &two).is_err());
    core::mem::swap(&mut two.signer.private_key, &mut two.root.private_key);
    assert!(InstanceConnectSigner::restore(&region(), DOMAIN, &two).is_err());
    two.signer = one.signer;
    assert!(InstanceConnectSigner::restore(&region(), DOMAIN, &two).is_err(), "another root's signer");
    let (_, mut documents) = DocumentSigner::create(&region(), now).unwrap();
    documents.private_key.truncate(20);
    assert!(DocumentSigner::restore(&documents).is_err());
}
