use super::*;
use crate::metadata::tests::{Script, answer, answer as metadata_answer, settings};
use inborn_pki::InstanceConnectSigner;
use std::sync::LazyLock;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const INSTANCE: &str = "i-0123456789abcdef0";
const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMd6eplFJygDaby7l9CC2zxVE3VP1nuDKDnsXxR4W99/ root@host";
const ANOTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+B+SbCCpqmqWo1SiUG3HGZbz4NyvXcZzIrWV/Hz4Qz";

fn create() -> InstanceConnectSigner {
    InstanceConnectSigner::create(&"us-east-1".parse().unwrap(), "amazonaws.com", NOW).unwrap().0
}

/// Takes long in a build without optimisation: made once.
static SIGNER: LazyLock<InstanceConnectSigner> = LazyLock::new(create);
static OTHER: LazyLock<InstanceConnectSigner> = LazyLock::new(create);

fn block(signer: &InstanceConnectSigner, user: &str, key: &str) -> String {
    let lines = format!(
        "#Timestamp={}\n#Instance={INSTANCE}\n#Caller=arn:aws:iam::123456789012:user/a\n#Request=1\n#User={user}\n{key}\n",
        NOW.plus(60).as_secs()
    );
    format!("{lines}{}\n\n", signer.sign(&lines).unwrap())
}

fn question(user: &str) -> Question<'_> {
    Question {
        user,
        fingerprint: None,
        any_user: false,
        instance: None,
        signer: None,
        root: SIGNER.root_pem().as_bytes(),
    }
}

/// What a machine's metadata answer, token included, to one who is sent keys.
fn metadata(keys: &str) -> Vec<String> {
    vec![
        answer(200, "", "TOKEN"),
        answer(200, "", keys),
        answer(200, "", INSTANCE),
        answer(200, "", SIGNER.chain_pem()),
        answer(200, "", &SIGNER.staples(NOW).unwrap()[0].response),
    ]
}

async fn ask(answers: Vec<String>, question: &Question<'_>) -> (Result<Answer, AuthorizedKeysError>, Vec<String>) {
    let script = Script::start(answers).await;
    (authorized_keys(&settings(&script.url()), question, NOW).await, script.seen())
}

#[tokio::test]
async fn who_knows_which_instance_it_is_takes_no_other_ones_keys() {
    let keys = block(&SIGNER, "root", ED25519);
    let own = Question { instance: Some(INSTANCE.parse().unwrap()), ..question("root") };
    assert_eq!(ask(metadata(&keys), &own).await.0.unwrap().keys, [ED25519]);
    let other = Question { instance: Some("i-0123456789abcdef1".parse().unwrap()), ..question("root") };
    let refused = ask(metadata(&keys), &other).await.0.unwrap_err();
    assert_eq!(refused.to_string(), format!("the metadata are those of {INSTANCE}, which is not this instance"));
}

#[tokio::test]
async fn a_key_that_was_sent_is_told() {
    let keys = block(&SIGNER, "root", ED25519) + &block(&SIGNER, "root", ANOTHER);
    let (answer, seen) = ask(metadata(&keys), &question("root")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.keys, answer.refused.len()), (vec![ED25519.to_owned(), ANOTHER.to_owned()], 0));
    let paths: Vec<&str> = seen.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let base = "/latest/meta-data/managed-ssh-keys";
    let staple = format!("{base}/signer-ocsp/{}", SIGNER.staples(NOW).unwrap()[0].fingerprint);
    assert_eq!(
        paths[..4],
        ["/latest/api/token", &format!("{base}/active-keys/root/"), INSTANCE_PATH, &format!("{base}/signer-cert/")]
    );
    assert_eq!(paths[4..], [staple]);
    assert!(seen[1..].iter().all(|request| request.contains("x-aws-ec2-metadata-token: TOKEN\r\n")));
}

#[tokio::test]
async fn only_the_key_that_is_offered() {
    let keys = block(&SIGNER, "root", ED25519) + &block(&SIGNER, "root", ANOTHER);
    let fingerprint = PublicKey::parse(ANOTHER).unwrap().fingerprint();
    let (answer, _) = ask(metadata(&keys), &Question { fingerprint: Some(&fingerprint), ..question("root") }).await;
    assert_eq!(answer.unwrap().keys, [ANOTHER]);
    let (answer, _) = ask(metadata(&keys), &Question { fingerprint: Some("SHA256:x"), ..question("root") }).await;
    assert!(answer.unwrap().keys.is_empty());
}

#[tokio::test]
async fn where_there_is_no_key_nothing_else_is_asked() {
    let (answer, seen) = ask(vec![answer(200, "", "TOKEN"), answer(404, "", "")], &question("root")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.keys.len(), answer.refused.len(), seen.len()), (0, 0, 2));
    for user in ["../root", "a/b", "", "a b", "ü", ".x", &"u".repeat(33)] {
        let (answer, seen) = ask(Vec::new(), &question(user)).await;
        assert_eq!((answer.unwrap().keys.len(), seen.len()), (0, 0), "{user}");
    }
}

#[tokio::test]
async fn what_nobody_trusted_has_signed_is_refused_and_the_rest_is_told() {
    let tampered = block(&SIGNER, "root", ED25519).replace(ED25519, ANOTHER);
    let options = block(&SIGNER, "root", &format!("command=\"sh\" {ED25519}"));
    let keys = [
        block(&OTHER, "root", ED25519),
        tampered,
        block(&SIGNER, "me", ED25519),
        options,
        block(&SIGNER, "root", ANOTHER),
    ];
    let (answer, _) = ask(metadata(&keys.concat()), &question("root")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.keys, [ANOTHER]);
    assert!(matches!(
        answer.refused[..],
        [
            Refused::Signature(LoginKeysError::Signature),
            Refused::Signature(LoginKeysError::Signature),
            Refused::Block(BlockError::OtherUser),
            Refused::Key(KeyError::Malformed)
        ]
    ));
}

#[tokio::test]
async fn a_signer_that_does_not_lead_to_the_root_is_not_believed() {
    let keys = block(&SIGNER, "root", ED25519);
    let (answer, _) = ask(metadata(&keys), &Question { root: OTHER.root_pem().as_bytes(), ..question("root") }).await;
    assert!(matches!(answer, Err(AuthorizedKeysError::Signer(LoginKeysError::Untrusted(_)))));
    let mut answers = metadata(&keys);
    answers[4] = metadata_answer(200, "", &OTHER.staples(NOW).unwrap()[0].response);
    let (answer, _) = ask(answers, &question("root")).await;
    assert!(matches!(answer, Err(AuthorizedKeysError::Signer(LoginKeysError::Staple(_)))));
    let mut answers = metadata(&keys);
    answers[4] = metadata_answer(404, "", "");
    let (answer, _) = ask(answers, &question("root")).await;
    assert!(matches!(answer, Err(AuthorizedKeysError::Metadata(MetadataError::Missing { .. }))));
}

#[tokio::test]
async fn a_service_without_tokens_is_not_asked() {
    let (answer, _) = ask(vec![answer(404, "", "")], &question("root")).await;
    assert!(matches!(answer, Err(AuthorizedKeysError::NoToken)));
}
