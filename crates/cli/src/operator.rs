//! The operator's side of EC2: the same requests an AWS tool would send, signed with the key in `operator.env`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{Request, Uri};
use inborn_guest::http::{Client, Limits, Switched};
use inborn_identity::{Clock, InstanceId};
use inborn_sigv4::sign::{Credentials, Target, presign, sign};
use inborn_sigv4::{Header, PathMode};
use inborn_wire::query;
use roxmltree::{Document, Node};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments;
use crate::clock::SystemClock;
use crate::deployment;
use crate::directory::{self, Ready};

/// Names the file with the key of another operator than the first. Also what these commands start is to use it.
const OPERATOR_FILE: &str = "INBORN_OPERATOR";
const VERSION: &str = "2016-11-15";
const IAM_VERSION: &str = "2010-05-08";
const AGENT: &str = concat!("inborn/", env!("CARGO_PKG_VERSION"));
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// An operator of a running region.
pub(crate) struct Operator {
    ready: Ready,
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    client: Client,
}

/// A machine as EC2 describes it, as far as these commands show it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) state: String,
    /// Why it is in that state, or in quarantine.
    pub(crate) reason: String,
    pub(crate) launched: String,
    pub(crate) image_id: String,
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) private_ip: String,
    pub(crate) http_tokens: String,
    pub(crate) http_endpoint: String,
    pub(crate) hop_limit: String,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Operator {
    /// The operator of the region that the arguments mean.
    pub(crate) async fn find(region: &arguments::Region) -> anyhow::Result<Self> {
        match directory::find_soon(arguments::named(region.data.as_ref())).await? {
            Some(ready) => Self::of(&match region.region_name.as_deref() {
                Some(name) => deployment::find(ready, name)?,
                None => ready,
            }),
            None => {
                let place = arguments::named(region.data.as_ref())
                    .map_or_else(String::new, |data| format!(" on {}", data.display()));
                bail!(
                    "no `inborn up` or `inborn region` is running{place}: start one, or name its data directory with --data or \
                     INBORN_DATA"
                )
            }
        }
    }

    /// The operator of this region whose key is in the file that `INBORN_OPERATOR` names; else the one of its first start.
    pub(crate) fn of(ready: &Ready) -> anyhow::Result<Self> {
        let named = std::env::var_os(OPERATOR_FILE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self::with_key_in(named.as_ref().unwrap_or(&ready.operator_env), ready)
    }

    /// The operator of this region's first start, whatever the environment says.
    pub(crate) fn first_of(ready: &Ready) -> anyhow::Result<Self> {
        Self::with_key_in(&ready.operator_env, ready)
    }

    fn with_key_in(path: &Path, ready: &Ready) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the operator's key in {}: run this as its owner", path.display()))?;
        let text = Zeroizing::new(text);
        let value = |name: &str| {
            let found =
                text.lines().find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_owned).with_context(|| format!("{} has no {name}: restart `inborn up`", path.display()))
        };
        Ok(Self {
            access_key_id: value("AWS_ACCESS_KEY_ID")?,
            secret_access_key: Zeroizing::new(value("AWS_SECRET_ACCESS_KEY")?),
            client: Client::new(Limits::REGION, Some(ready.ca_bundle.clone())),
            ready: ready.clone(),
        })
    }

    pub(crate) const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Launches one machine.
    pub(crate) async fn launch(&self, machine: &arguments::Machine, lease: bool) -> anyhow::Result<InstanceId> {
        let mut parameters = machine.parameters()?;
        if lease {
            parameters.push(("Inborn.Lease".to_owned(), "true".to_owned()));
        }
        let answer = self.call("RunInstances", &parameters).await?;
        let document = Document::parse(&answer).context("the region's answer is not XML")?;
        let machine = document.descendants().find(|node| node.has_tag_name_local("instanceId"));
        let id = machine.and_then(|node| node.text()).context("the region's answer names no instance")?;
        id.parse().map_err(|error| anyhow!("the region's answer names no instance: {error}"))
    }

    /// Applies an operation to machines.
    pub(crate) async fn change(&self, action: &str, ids: &[String]) -> anyhow::Result<()> {
        self.call(action, &instance_ids(ids)).await.map(drop)
    }

    /// The machines of these ids, or all.
    pub(crate) async fn machines(&self, ids: &[String]) -> anyhow::Result<Vec<Machine>> {
        let mut all = Vec::new();
        let mut parameters = instance_ids(ids);
        loop {
            let answer = self.call("DescribeInstances", &parameters).await?;
            let document = Document::parse(&answer).context("the region's answer is not XML")?;
            let instances = document.descendants().filter(|node| {
                node.has_tag_name_local("item")
                    && node.parent().is_some_and(|list| list.has_tag_name_local("instancesSet"))
            });
            all.extend(instances.map(Machine::read));
            let next = document.root_element().child_text("nextToken");
            if next.is_empty() {
                return Ok(all);
            }
            parameters.retain(|(name, _)| name != "NextToken");
            parameters.push(("NextToken".to_owned(), next));
        }
    }

    /// The one machine of this name or id that is not terminated, or the terminated one of this id.
    pub(crate) async fn machine(&self, name_or_id: &str) -> anyhow::Result<Machine> {
        if name_or_id.parse::<InstanceId>().is_ok() {
            let found = self.machines(&[name_or_id.to_owned()]).await?;
            return found.into_iter().next().with_context(|| format!("there is no machine {name_or_id}"));
        }
        let all = self.machines(&[]).await?;
        let mut named: Vec<Machine> =
            all.into_iter().filter(|machine| machine.name == name_or_id && machine.state != "terminated").collect();
        match named.len() {
            0 => bail!("there is no machine {name_or_id}: see `inborn ps`"),
            1 => named.pop().with_context(|| format!("there is no machine {name_or_id}")),
            count => {
                let ids: Vec<String> = named.into_iter().map(|machine| machine.id).collect();
                bail!("{count} machines are called {name_or_id}: name one by its id ({})", ids.join(", "))
            }
        }
    }

    /// One call of EC2; the body of its answer if it was done, its refusal as an error if it was not.
    pub(crate) async fn call(&self, action: &str, parameters: &[(String, String)]) -> anyhow::Result<String> {
        let given = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.query("ec2", VERSION, action, given).await
    }

    /// As [`Operator::call`], of IAM.
    pub(crate) async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("iam", IAM_VERSION, action, parameters.iter().copied()).await
    }

    async fn query<'a>(
        &self,
        service: &str,
        version: &'a str,
        action: &'a str,
        parameters: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<String> {
        let fixed = [("Action", action), ("Version", version)];
        let body = query::encode(fixed.into_iter().chain(parameters));
        let (status, text) = self.send(service, &[("content-type", FORM)], body).await?;
        if status == 200 { Ok(text) } else { Err(refusal(action, status, &text).into()) }
    }

    /// One call of Instance Connect; its output if it was done, its refusal as an error if it was not.
    pub(crate) async fn instance_connect(&self, operation: &str, input: &Value) -> anyhow::Result<Value> {
        self.json("ec2-instance-connect", "AWSEC2InstanceConnectService", operation, input).await
    }

    /// One call of Systems Manager, likewise.
    pub(crate) async fn ssm(&self, operation: &str, input: &Value) -> anyhow::Result<Value> {
        self.json("ssm", "AmazonSSM", operation, input).await
    }

    /// One call of GuardDuty, likewise: named by method and path.
    pub(crate) async fn guardduty(
        &self,
        method: &'static str,
        path: &str,
        input: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let headers = [("content-type", "application/json")];
        let body = input.map(Value::to_string).unwrap_or_default();
        let (status, text) = self.send_to((method, path), "guardduty", &headers, body).await?;
        if status != 200 {
            return Err(json_refusal(path, status, &text).into());
        }
        serde_json::from_str(&text).context("the region's answer is not JSON")
    }

    async fn json(&self, service: &str, prefix: &str, operation: &str, input: &Value) -> anyhow::Result<Value> {
        let target = format!("{prefix}.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let (status, text) = self.send(service, &headers, input.to_string()).await?;
        if status != 200 {
            return Err(json_refusal(operation, status, &text).into());
        }
        serde_json::from_str(&text).context("the region's answer is not JSON")
    }

    /// The id of an endpoint that tunnels are opened at: any leads to every machine.
    async fn connect_endpoint(&self) -> anyhow::Result<String> {
        let answer = self.call("DescribeInstanceConnectEndpoints", &[]).await?;
        let document = Document::parse(&answer).context("the region's answer is not XML")?;
        let id = document.descendants().find(|node| node.has_tag_name_local("instanceConnectEndpointId"));
        let id = id.and_then(|node| node.text()).context("the region has no Instance Connect endpoint")?;
        Ok(id.to_owned())
    }

    /// Opens a tunnel to a port of a machine: a WebSocket, its handshake made and not one frame sent.
    pub(crate) async fn open_tunnel(&self, machine: &Machine, port: u16) -> anyhow::Result<Switched> {
        let endpoint = self.connect_endpoint().await?;
        let port = port.to_string();
        let parameters = [
            ("instanceConnectEndpointId", endpoint.as_str()),
            ("remotePort", &port),
            ("privateIpAddress", &machine.private_ip),
        ];
        let query = query::encode(parameters);
        let base: Uri = self.ready.endpoint.parse().context("the endpoint in the ready file is not a URL")?;
        let host = base.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let fields = [Header { name: b"host", value: host.as_bytes() }];
        let unsigned =
            inborn_sigv4::Request { method: "GET", path: b"/openTunnel", query: query.as_bytes(), headers: &fields };
        let query =
            presign(&unsigned, b"", &self.credentials(), &self.target("ec2-instance-connect"), 60, SystemClock.now())?;
        let request = Request::get(format!("{}/openTunnel?{query}", self.ready.endpoint))
            .header("host", &host)
            .header("user-agent", AGENT)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", websocket_key()?);
        let switched = self.client.switch(request.body(Bytes::new())?).await?;
        switched.map_err(|reply| {
            let text = String::from_utf8_lossy(&reply.body);
            json_refusal("OpenTunnel", reply.status, &text).into()
        })
    }

    /// Opens the client's side of a session: a WebSocket, its handshake made and not one frame sent. Nothing is signed: the
    /// session's token is the first word.
    pub(crate) async fn open_data_channel(&self, session: &str) -> anyhow::Result<Switched> {
        let url = format!("{}/v1/data-channel/{session}?role=publish_subscribe", self.ready.endpoint);
        let request = Request::get(url)
            .header("user-agent", AGENT)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", websocket_key()?);
        match self.client.switch(request.body(Bytes::new())?).await? {
            Ok(stream) => Ok(stream),
            Err(reply) => anyhow::bail!("the region refuses the session's data channel with {}", reply.status),
        }
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials {
            access_key_id: &self.access_key_id,
            secret_access_key: self.secret_access_key.as_bytes(),
            session_token: None,
        }
    }

    fn target<'a>(&'a self, service: &'a str) -> Target<'a> {
        Target { region: &self.ready.region, service, path_mode: PathMode::Normalized }
    }

    /// Signs a request with all its headers and sends it; the status of the answer, and its body as text.
    async fn send(&self, service: &str, headers: &[(&str, &str)], body: String) -> anyhow::Result<(u16, String)> {
        self.send_to(("POST", "/"), service, headers, body).await
    }

    /// As [`Operator::send`], with a method and to a path.
    async fn send_to(
        &self,
        (method, path): (&'static str, &str),
        service: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<(u16, String)> {
        let url: Uri =
            format!("{}{path}", self.ready.endpoint).parse().context("the endpoint in the ready file is not a URL")?;
        let host = url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let fields: Vec<Header<'_>> = headers
            .iter()
            .chain([&("host", host.as_str())])
            .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let unsigned = inborn_sigv4::Request { method, path: path.as_bytes(), query: b"", headers: &fields };
        let added = sign(&unsigned, body.as_bytes(), &self.credentials(), &self.target(service), SystemClock.now())?;
        let mut request = Request::builder().method(method).uri(url).header("host", &host).header("user-agent", AGENT);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in added {
            request = request.header(name, value);
        }
        let reply = self.client.call(request.body(Bytes::from(body))?).await?;
        Ok((reply.status, String::from_utf8_lossy(&reply.body).into_owned()))
    }
}

/// What a region answered instead of doing what it was asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: u16,
    text: String,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for Refusal {}

/// Sixteen random bytes, which the server shows to have read. Source: RFC 6455, section 4.1.
fn websocket_key() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("this machine has no source of random bytes"))?;
    Ok(BASE64.encode(bytes))
}

fn instance_ids(ids: &[String]) -> Vec<(String, String)> {
    ids.iter().enumerate().map(|(index, id)| (format!("InstanceId.{}", index + 1), id.clone())).collect()
}

/// EC2's `Error` element as a sentence.
fn refusal(action: &str, status: u16, text: &str) -> Refusal {
    let document = Document::parse(text).ok();
    let error =
        document.as_ref().and_then(|document| document.descendants().find(|node| node.has_tag_name_local("Error")));
    let text = match error {
        Some(error) => format!("{} ({action}: {})", error.child_text("Message"), error.child_text("Code")),
        None => format!("the region answered {action} with status {status}"),
    };
    Refusal { status, text }
}

/// The refusal of a JSON service as a sentence.
fn json_refusal(operation: &str, status: u16, text: &str) -> Refusal {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let member = |names: &[&str]| names.iter().find_map(|name| body.get(name)?.as_str());
    let text = match (member(&["__type", "ErrorCode"]), member(&["message", "Message"])) {
        (Some(code), Some(message)) => format!("{message} ({operation}: {code})"),
        (None, Some(message)) => format!("{message} ({operation}: status {status})"),
        _ => format!("the region answered {operation} with status {status}"),
    };
    Refusal { status, text }
}

impl Machine {
    fn read(node: Node<'_, '_>) -> Self {
        let tags = node.child("tagSet").into_iter().flat_map(|set| set.children()).filter(|node| node.is_element());
        let tags: BTreeMap<String, String> = tags.map(|tag| (tag.child_text("key"), tag.child_text("value"))).collect();
        let reservation = node.parent().and_then(|set| set.parent());
        let inner = |outer: &str, name: &str| node.child(outer).map(|node| node.child_text(name)).unwrap_or_default();
        Self {
            id: node.child_text("instanceId"),
            account: reservation.map(|reservation| reservation.child_text("ownerId")).unwrap_or_default(),
            name: tags.get("Name").cloned().unwrap_or_default(),
            state: inner("instanceState", "name"),
            reason: inner("stateReason", "message"),
            launched: node.child_text("launchTime").replace(".000Z", "Z"),
            image_id: node.child_text("imageId"),
            instance_type: node.child_text("instanceType"),
            zone: inner("placement", "availabilityZone"),
            private_ip: node.child_text("privateIpAddress"),
            http_tokens: inner("metadataOptions", "httpTokens"),
            http_endpoint: inner("metadataOptions", "httpEndpoint"),
            hop_limit: inner("metadataOptions", "httpPutResponseHopLimit"),
            tags,
        }
    }

    /// For `--output json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "instance_id": self.id,
            "account_id": self.account,
            "name": self.name,
            "state": self.state,
            "state_reason": self.reason,
            "launched": self.launched,
            "image_id": self.image_id,
            "instance_type": self.instance_type,
            "zone": self.zone,
            "private_ip": self.private_ip,
            "http_tokens": self.http_tokens,
            "http_endpoint": self.http_endpoint,
            "hop_limit": self.hop_limit.parse::<u8>().ok(),
            "tags": self.tags,
        })
    }
}

/// Elements by their local names: answers have the namespace of their service, EC2's refusals none.
pub(crate) trait Local<'a, 'i> {
    fn has_tag_name_local(&self, name: &str) -> bool;
    fn child(&self, name: &str) -> Option<Node<'a, 'i>>;
    fn child_text(&self, name: &str) -> String;
}

impl<'a, 'i> Local<'a, 'i> for Node<'a, 'i> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }

    fn child(&self, name: &str) -> Option<Node<'a, 'i>> {
        self.children().find(|node| node.has_tag_name_local(name))
    }

    fn child_text(&self, name: &str) -> String {
        self.child(name).and_then(|node| node.text()).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_machine() {
        let text = r#"<R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><ownerId>000000000007</ownerId><instancesSet><item>
            <instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>
            <launchTime>2026-11-23T05:00:00.000Z</launchTime>
            <tagSet><item><key>Name</key><value>web</value></item><item><key>a</key><value/></item></tagSet>
            <metadataOptions><httpTokens>required</httpTokens></metadataOptions></item></instancesSet></R>"#;
        let document = Document::parse(text).unwrap();
        let item = document.descendants().find(|node| node.has_tag_name_local("item")).unwrap();
        let machine = Machine::read(item);
        assert_eq!(machine.account, "000000000007");
        assert_eq!((machine.id.as_str(), machine.name.as_str(), machine.state.as_str()), ("i-1", "web", "running"));
        assert_eq!((machine.launched.as_str(), machine.http_tokens.as_str()), ("2026-11-23T05:00:00Z", "required"));
        assert_eq!(machine.tags.get("a").map(String::as_str), Some(""));
    }

    #[test]
    fn a_refusal_is_a_sentence() {
        let text =
            "<Response><Errors><Error><Code>C</Code><Message>It cannot be.</Message></Error></Errors></Response>";
        assert_eq!(refusal("RunInstances", 400, text).to_string(), "It cannot be. (RunInstances: C)");
        assert_eq!(
            refusal("RunInstances", 502, "<html").to_string(),
            "the region answered RunInstances with status 502"
        );
        let text = r#"{"__type":"C","message":"It cannot be."}"#;
        assert_eq!(json_refusal("Op", 400, text).to_string(), "It cannot be. (Op: C)");
        assert_eq!(json_refusal("Op", 503, "<html").to_string(), "the region answered Op with status 503");
    }
}
