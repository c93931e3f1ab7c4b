//! A store that speaks as much of S3 as is used here, over a socket. It checks the signature of every request, and fails when a
//! test wants it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inborn_identity::UnixTime;
use inborn_sigv4::{Endpoint, Expires, Header, PathMode, Presented, Request as Signed, Scratch, SigningKey, sha256};

pub const BUCKET: &str = "telemetry";
pub const KEY_ID: &str = "AKIADOUBLE";
pub const SECRET: &str = "the secret of the double";
pub const TOKEN: &str = "the token of the double";
const REGION: &str = "eu-west-1";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered so, and nothing else happens.
    Answer(u16, &'static str),
    /// It is done, and the connection closed before an answer.
    Unanswered,
    /// The connection is closed in the midst of the answer.
    Cut,
    /// It is done after a while.
    Slow(Duration),
    /// It is done, and answered after a while.
    SlowAnswer(Duration),
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Bytes>,
    /// Of uploads in parts that are not completed: their keys, and parts by number.
    pub uploads: BTreeMap<u64, (String, BTreeMap<u32, Bytes>)>,
    uploads_made: u64,
    /// What becomes of the next requests.
    pub faults: VecDeque<Fault>,
    /// Method, key and query of each.
    pub seen: Vec<(Method, String, String)>,
    /// Requests whose signature did not hold.
    pub refused: Vec<String>,
}

/// The store; it ends with the process.
#[derive(Clone)]
pub struct Double {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Double {
    /// Serves from a thread of its own.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let double = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let serving = double.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let double = serving.clone();
                    tokio::spawn(async move {
                        let respond = service_fn(move |request| double.clone().respond(request));
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), respond)
                            .await;
                    });
                }
            });
        });
        double
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/lake?endpoint=http://{}&region={REGION}", self.address)
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults = faults.into_iter().collect();
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else { return Err(Closed) };
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or("").to_owned();
        if let Err(reason) = check_signature(&head, &path, &query, &body) {
            self.state().refused.push(reason);
            // As Amazon's, with the request in it.
            let text = format!(
                "<Error><Code>SignatureDoesNotMatch</Code><Message>It does not match.</Message><CanonicalRequest>{:?}\
                 </CanonicalRequest></Error>",
                head.headers.get("x-amz-security-token")
            );
            return Ok(answer(403, text));
        }
        let key = path.strip_prefix(&format!("/{BUCKET}/")).map(unescape);
        let fault = {
            let mut state = self.state();
            state.seen.push((head.method.clone(), key.clone().unwrap_or_default(), query.clone()));
            state.faults.pop_front()
        };
        if let Some(Fault::Answer(status, code)) = fault {
            return Ok(answer(status, format!("<Error><Code>{code}</Code><Message>Told to.</Message></Error>")));
        }
        if let Some(Fault::Slow(time)) = fault {
            tokio::time::sleep(time).await;
        }
        let range = head.headers.get(http::header::RANGE).map(|range| range.to_str().unwrap().to_owned());
        let answer = match key {
            Some(key) => self.state().act(&head.method, key, &query, range.as_deref(), body),
            None => answer(404, "<Error><Code>NoSuchBucket</Code><Message>None.</Message></Error>".to_owned()),
        };
        if let Some(Fault::SlowAnswer(time)) = fault {
            tokio::time::sleep(time).await;
        }
        match fault {
            Some(Fault::Unanswered) => Err(Closed),
            Some(Fault::Cut) => Ok(answer.map(|body| Body { rest: body.rest, is_cut: true })),
            _ => Ok(answer),
        }
    }
}

impl State {
    fn act(&mut self, method: &Method, key: String, query: &str, range: Option<&str>, body: Bytes) -> Response<Body> {
        let parameters: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let upload = parameters.get("uploadId").map(|id| id.parse::<u64>().unwrap());
        let missing = || answer(404, "<Error><Code>NoSuchKey</Code><Message>None.</Message></Error>".to_owned());
        match (method.as_str(), upload) {
            ("POST", None) if parameters.contains_key("uploads") => {
                self.uploads_made += 1;
                self.uploads.insert(self.uploads_made, (key, BTreeMap::new()));
                let id = self.uploads_made;
                answer(
                    200,
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"),
                )
            }
            ("PUT", Some(id)) => {
                let Some((of, parts)) = self.uploads.get_mut(&id) else { return missing() };
                assert_eq!(*of, key);
                let number = parameters["partNumber"].parse().unwrap();
                parts.insert(number, body);
                with_etag(answer(200, String::new()), &format!("part-{number}"))
            }
            ("POST", Some(id)) => {
                let Some((_, parts)) = self.uploads.remove(&id) else { return missing() };
                // Those that are named, in this order.
                let text = String::from_utf8(body.to_vec()).unwrap();
                let mut whole = Vec::new();
                for (number, part) in &parts {
                    assert!(text.contains(&format!("<PartNumber>{number}</PartNumber>")), "{text}");
                    whole.extend_from_slice(part);
                }
                self.objects.insert(key, whole.into());
                answer(
                    200,
                    "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>".to_owned(),
                )
            }
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                answer(204, String::new())
            }
            ("PUT", None) => {
                self.objects.insert(key, body);
                with_etag(answer(200, String::new()), "e")
            }
            ("DELETE", None) => {
                self.objects.remove(&key);
                answer(204, String::new())
            }
            ("GET", None) => {
                let Some(object) = self.objects.get(&key) else { return missing() };
                let total = object.len();
                let (status, first, last) = match range.and_then(|range| range.strip_prefix("bytes=")) {
                    None => (200, 0, total),
                    Some(range) => {
                        let (first, last) = range.split_once('-').unwrap();
                        let last = last.parse::<usize>().unwrap() + 1;
                        (206, first.parse::<usize>().unwrap(), last.min(total))
                    }
                };
                if first >= total && total > 0 {
                    return answer(416, "<Error><Code>InvalidRange</Code><Message>x</Message></Error>".to_owned());
                }
                let mut response = with_etag(answer(status, String::new()), "e");
                let headers = response.headers_mut();
                headers.insert("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT".parse().unwrap());
                if status == 206 {
                    let text = format!("bytes {first}-{}/{total}", last - 1);
                    headers.insert("content-range", text.parse().unwrap());
                }
                response.map(|_| Body { rest: Some(object.slice(first..last)), is_cut: false })
            }
            _ => answer(405, "<Error><Code>MethodNotAllowed</Code><Message>x</Message></Error>".to_owned()),
        }
    }
}

/// With every header that was signed, the hash of the body, and the key that there is.
fn check_signature(head: &http::request::Parts, path: &str, query: &str, body: &[u8]) -> Result<(), String> {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() })
        .collect();
    let request =
        Signed { method: head.method.as_str(), path: path.as_bytes(), query: query.as_bytes(), headers: &headers };
    let endpoint = Endpoint {
        service: "s3",
        regions: &[REGION],
        path_mode: PathMode::AsIs,
        skew_seconds: 900,
        query_auth: false,
        expires: Expires::Ignored,
    };
    let now = UnixTime::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let failed = |fault: inborn_sigv4::Fault| format!("{fault:?}");
    let presented = Presented::accept(&request, &endpoint, now).map_err(failed)?;
    if presented.access_key_id() != KEY_ID || presented.token() != Some(TOKEN.as_bytes()) {
        return Err(format!("nobody has the key {}", presented.access_key_id()));
    }
    for header in [&b"host"[..], b"x-amz-content-sha256", b"x-amz-date"] {
        if !presented.covers(header) {
            return Err(format!("{} is not signed", String::from_utf8_lossy(header)));
        }
    }
    let scope = presented.scope();
    let key = SigningKey::derive(SECRET.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
    presented.verify(&request, &sha256(body), endpoint.path_mode, &key, &mut Scratch::new()).map_err(failed)
}

fn unescape(path: &str) -> String {
    // A path has no plus for a space.
    form_urlencoded::parse(path.replace('+', "%2B").as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

fn answer(status: u16, text: String) -> Response<Body> {
    let body = Body { rest: Some(text.into()), is_cut: false };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn with_etag(mut response: Response<Body>, etag: &str) -> Response<Body> {
    response.headers_mut().insert("etag", format!("\"{etag}\"").parse().unwrap());
    response
}

/// Closes the connection.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed")
    }
}
impl std::error::Error for Closed {}

/// A body of a known length, of which half may be sent.
pub struct Body {
    rest: Option<Bytes>,
    is_cut: bool,
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Closed>>> {
        let next = match self.rest.take() {
            Some(bytes) if self.is_cut && !bytes.is_empty() => {
                Some(Ok(hyper::body::Frame::data(bytes.slice(..bytes.len() / 2))))
            }
            Some(bytes) if !bytes.is_empty() => Some(Ok(hyper::body::Frame::data(bytes))),
            _ if self.is_cut => Some(Err(Closed)),
            _ => None,
        };
        std::task::Poll::Ready(next)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.rest.as_ref().map_or(0, Bytes::len) as u64)
    }
}
