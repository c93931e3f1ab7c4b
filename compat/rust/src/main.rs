//! The AWS SDK for Rust, as a user has it: `inborn-compat-rust MODE…` prints one line of JSON, keyed by mode.
#![forbid(unsafe_code)]

use aws_config::imds::Client as Metadata;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use serde_json::{Map, Value, json};
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let mut results = Map::new();
    for mode in std::env::args().skip(1) {
        let result = match mode.as_str() {
            "whoami" => whoami(&config).await?,
            "refusals" => refusals(&config).await,
            "metadata" => metadata().await?,
            other => return Err(format!("no mode `{other}`").into()),
        };
        results.insert(mode, result);
    }
    println!("{}", Value::Object(results));
    Ok(())
}

async fn whoami(config: &SdkConfig) -> Result<Value, Box<dyn Error>> {
    let answer = aws_sdk_sts::Client::new(config).get_caller_identity().send().await?;
    Ok(json!({ "Arn": answer.arn(), "UserId": answer.user_id(), "Account": answer.account() }))
}

async fn refusals(config: &SdkConfig) -> Value {
    let config = config.clone().into_builder().retry_config(RetryConfig::disabled()).build();
    let session = aws_sdk_sts::Client::new(&config).get_session_token().send().await;
    let queues = aws_sdk_sqs::Client::new(&config).list_queues().send().await;
    json!({ "sts GetSessionToken": told(session), "sqs ListQueues": told(queues) })
}

fn told<T, E: ProvideErrorMetadata>(answer: Result<T, SdkError<E, aws_sdk_sts::config::http::HttpResponse>>) -> Value {
    match answer {
        Ok(_) => json!({ "status": 200, "code": "", "message": "" }),
        Err(error) => json!({
            "status": error.raw_response().map_or(0, |answer| answer.status().as_u16()),
            "code": error.code(),
            "message": error.message(),
        }),
    }
}

async fn metadata() -> Result<Value, Box<dyn Error>> {
    let client = Metadata::builder().build();
    let role = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
    let document: String = client.get(role).await?.into();
    let document: Value = serde_json::from_str(&document)?;
    let instance: String = client.get("/latest/meta-data/instance-id").await?.into();
    let region: String = client.get("/latest/meta-data/placement/region").await?.into();
    Ok(json!({ "instance": instance, "region": region, "key": document["AccessKeyId"] }))
}
