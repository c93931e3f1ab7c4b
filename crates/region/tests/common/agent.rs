//! What an SSM agent does on the wire, as far as signatures go.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_identity::InstanceId;

use super::{Reply, Running, Signer, exchange, json};

pub const SECOND: &str = "SSM-AsymmetricKeyAuthorization";

/// An agent's key pair, as on its disk.
pub struct Agent {
    pair: RsaKeyPair,
}

impl Agent {
    pub fn new() -> Self {
        Self { pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    pub fn public_key(&self) -> String {
        BASE64.encode(self.pair.public_key().as_der().unwrap().as_ref())
    }

    pub fn registration(&self, fingerprint: InstanceId) -> String {
        let key = self.public_key();
        format!(r#"{{"Fingerprint":"{fingerprint}","PublicKey":"{key}","PublicKeyType":"Rsa"}}"#)
    }

    /// The value of the second signature's header.
    pub fn sign(&self, authorization: &str) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), authorization.as_bytes(), &mut signature).unwrap();
        format!("Signature={}", BASE64.encode(signature))
    }
}

/// The value of `Authorization` in a request.
pub fn authorization(text: &str) -> &str {
    text.split("\r\n").find_map(|line| line.strip_prefix("authorization: ")).unwrap()
}

/// A request with one more header, before the others, which no signature covers.
pub fn with_header(text: &str, name: &str, value: &str) -> String {
    text.replacen("\r\n", &format!("\r\n{name}: {value}\r\n"), 1)
}

impl Running {
    pub async fn register(&self, agent: &Agent, id: InstanceId) -> Reply {
        let body = agent.registration(id);
        self.send(&self.machine(id), &json("ssm", "AmazonSSM.RegisterManagedInstance", &body)).await
    }

    /// A call that the machine signs, and the agent's key beside it.
    pub async fn twice_signed(&self, agent: &Agent, signer: &Signer, operation: &str, body: &str) -> Reply {
        let text = self.signed(signer, &json("ssm", &format!("AmazonSSM.{operation}"), body));
        exchange(self.address, &with_header(&text, SECOND, &agent.sign(authorization(&text)))).await
    }

    pub async fn role_token(&self, agent: &Agent, id: InstanceId) -> Reply {
        let body = format!(r#"{{"Fingerprint":"{id}"}}"#);
        self.twice_signed(agent, &self.machine(id), "RequestManagedInstanceRoleToken", &body).await
    }

    /// A machine whose agent has registered, with the session that it was given.
    pub async fn managed(&self) -> (InstanceId, Agent, Signer) {
        let (id, agent) = (self.launch().await, Agent::new());
        assert_eq!(self.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
        assert_eq!(self.register(&agent, id).await.status, 200);
        let reply = self.role_token(&agent, id).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let signer = session(&reply);
        (id, agent, signer)
    }
}

/// The session in an answer to `RequestManagedInstanceRoleToken`.
pub fn session(reply: &Reply) -> Signer {
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let text = |name: &str| {
        body.get(name).and_then(serde_json::Value::as_str).unwrap_or_else(|| panic!("{name}: {body}")).to_owned()
    };
    Signer { access_key_id: text("AccessKeyId"), secret: text("SecretAccessKey"), token: Some(text("SessionToken")) }
}
