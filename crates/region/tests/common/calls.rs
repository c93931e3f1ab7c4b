//! A call of each operation, and how each service says no.

use inborn_identity::InstanceId;
use inborn_region::{Operation, Protocol, Service};

use super::{Call, Reply, between, call, json};

/// A call of an operation that is well-formed as far as its protocol goes, signed for what its clients sign for.
pub fn good_call(service: &Service, operation: &Operation, id: InstanceId) -> Call {
    Call { service: service.signing_name.to_owned(), ..well_formed(service, operation, id) }
}

fn well_formed(service: &Service, operation: &Operation, id: InstanceId) -> Call {
    match service.protocol {
        Protocol::Query => {
            let version = service.version.unwrap_or("2016-11-15");
            call(service.name, &format!("Action={}&Version={version}", operation.name))
        }
        Protocol::Rest { routes } => {
            let route = routes.iter().find(|route| route.operation == operation.name).unwrap();
            let target = route.path.replace("{ControlChannelId}", &id.to_string()).replace("{SessionId}", "operator-0");
            let target = target.replace(['{', '}'], "");
            match route.method {
                method @ ("GET" | "DELETE") => {
                    Call { method, target: format!("{target}?Version=2"), headers: vec![], ..call(service.name, "") }
                }
                method => {
                    let headers = vec![("content-type", "application/json".to_owned())];
                    Call { method, target, headers, ..call(service.name, JSON_BODY) }
                }
            }
        }
        Protocol::Json { target_prefix, named_by_path, sockets } => {
            if let Some(socket) = sockets.iter().find(|socket| socket.operation == operation.name) {
                let target = format!("{}?Version=2", socket.path);
                return Call { method: "GET", target, headers: vec![], ..call(service.name, "") };
            }
            match named_by_path.iter().find(|named| named.operation == operation.name) {
                Some(named) => Call {
                    target: named.path.to_owned(),
                    headers: vec![("content-type", "application/json".to_owned())],
                    ..call(service.name, JSON_BODY)
                },
                None => json(service.name, &format!("{target_prefix}.{}", operation.name), JSON_BODY),
            }
        }
    }
}

/// What no operation knows: refused by those that refuse what they do not know, but not before they know who asks.
const JSON_BODY: &str = r#"{"Version=2":0}"#;

/// How a service answers what is wrong with a caller.
pub struct Refused {
    pub unknown: &'static str,
    pub signature: &'static str,
    pub expired: &'static str,
    pub unsigned: (u16, &'static str),
    pub denied: (u16, &'static str),
}

/// How an operation answers it: a WebSocket with the statuses of REST.
pub fn refused_by(service: &Service, operation: &Operation) -> Refused {
    let of_service = refused(service);
    match service.protocol {
        Protocol::Json { sockets, .. } if sockets.iter().any(|socket| socket.operation == operation.name) => {
            Refused { unsigned: (403, of_service.unsigned.1), denied: (403, of_service.denied.1), ..of_service }
        }
        _ => of_service,
    }
}

pub fn refused(service: &Service) -> Refused {
    match (service.name, service.protocol) {
        ("ec2", _) => Refused {
            unknown: "AuthFailure",
            signature: "AuthFailure",
            expired: "RequestExpired",
            unsigned: (400, "MissingParameter"),
            denied: (403, "UnauthorizedOperation"),
        },
        (_, Protocol::Query) => Refused {
            unknown: "InvalidClientTokenId",
            signature: "SignatureDoesNotMatch",
            expired: "ExpiredToken",
            unsigned: (403, "MissingAuthenticationToken"),
            denied: (403, "AccessDenied"),
        },
        (_, Protocol::Rest { .. }) => Refused {
            unknown: "UnrecognizedClientException",
            signature: "InvalidSignatureException",
            expired: "ExpiredTokenException",
            unsigned: (403, "MissingAuthenticationTokenException"),
            denied: (403, "AccessDeniedException"),
        },
        (_, Protocol::Json { .. }) => Refused {
            unknown: "UnrecognizedClientException",
            signature: "InvalidSignatureException",
            expired: "ExpiredTokenException",
            unsigned: (400, "MissingAuthenticationTokenException"),
            denied: (400, "AccessDeniedException"),
        },
    }
}

/// Whether a call got past the table: done, or refused for what it says.
pub fn is_let_in(reply: &Reply) -> bool {
    let complaints = [
        "InvalidParameter",
        "InvalidResourceId",
        "MissingParameter",
        "InvalidParameterCombination",
        "ValidationError",
        "ValidationException",
        "InvalidArgsException",
        "BadRequestException",
    ];
    reply.status == 200 || complaints.contains(&code(reply))
}

/// The code of a refusal in any dialect.
pub fn code(reply: &Reply) -> &str {
    if let Some(code) = reply.header("x-amzn-errortype") {
        return code;
    }
    let body = reply.body.as_str();
    let in_json = ["\"__type\":\"", "\"ErrorCode\":\""].into_iter().find_map(|start| body.split_once(start));
    match in_json {
        Some((_, rest)) => rest.split('"').next().unwrap().rsplit('#').next().unwrap(),
        None if body.contains("<Code>") => between(body, "<Code>", "</Code>"),
        // The message gateway.
        None => between(body, "<", ">"),
    }
}
