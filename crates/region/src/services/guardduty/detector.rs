//! Detectors, as requests set them up and as answers show them.

use std::collections::BTreeMap;

use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::refusal;
use super::request::{Input, moment, status};
use crate::guardduty::Watched;
use crate::guardduty::settings::{Additional, Feature, RUNTIME_MONITORING, Settings};
use crate::operation::JsonCall;

/// What `CreateDetector` and `UpdateDetector` may say beside what is their own.
pub(super) const FREQUENCY: &str = "findingPublishingFrequency";
const FREQUENCIES: [&str; 3] = ["FIFTEEN_MINUTES", "ONE_HOUR", "SIX_HOURS"];
/// Features of GuardDuty that a region has no eyes for.
const ABSENT_FEATURES: [&str; 8] = [
    "S3_DATA_EVENTS",
    "EKS_AUDIT_LOGS",
    "EBS_MALWARE_PROTECTION",
    "RDS_LOGIN_EVENTS",
    "LAMBDA_NETWORK_LOGS",
    "EKS_RUNTIME_MONITORING",
    "AI_PROTECTION",
    "AI_ANALYST",
];
/// What belongs to the feature that there is.
const ADDITIONAL: [&str; 3] = ["EKS_ADDON_MANAGEMENT", "ECS_FARGATE_AGENT_MANAGEMENT", "EC2_AGENT_MANAGEMENT"];
/// Most features that a request names.
const FEATURES_MAX: usize = 50;

/// Sets what a request says of a detector.
pub(super) fn set(settings: &mut Settings, input: &Input, now: u64) -> Result<(), Problem> {
    if let Some(is_enabled) = input.boolean("enable")? {
        settings.is_enabled = is_enabled;
    }
    if let Some(frequency) = input.one_of(FREQUENCY, &FREQUENCIES)? {
        frequency.clone_into(&mut settings.frequency);
    }
    check_data_sources(input)?;
    for given in input.objects("features", FEATURES_MAX, &["name", "status", "additionalConfiguration"])? {
        let name = given.name("name", 1..=300)?.to_owned();
        let is_enabled = is_enabled(&given)?;
        if ABSENT_FEATURES.contains(&name.as_str()) {
            if is_enabled == Some(true) {
                return Err(absent(&name));
            }
            continue;
        }
        if name != RUNTIME_MONITORING {
            return Err(refusal::invalid("features"));
        }
        let off = || Feature { is_enabled: false, updated_at: now, additional: BTreeMap::new() };
        let feature = settings.features.entry(name).or_insert_with(off);
        if let Some(is_enabled) = is_enabled {
            (feature.is_enabled, feature.updated_at) = (is_enabled, now);
        }
        for given in given.objects("additionalConfiguration", FEATURES_MAX, &["name", "status"])? {
            let name = given.name("name", 1..=300)?;
            if !ADDITIONAL.contains(&name) {
                return Err(refusal::invalid("additionalConfiguration"));
            }
            let is_enabled = self::is_enabled(&given)?.unwrap_or(false);
            feature.additional.insert(name.to_owned(), Additional { is_enabled, updated_at: now });
        }
    }
    Ok(())
}

fn is_enabled(given: &Input) -> Result<Option<bool>, Problem> {
    Ok(given.one_of("status", &["ENABLED", "DISABLED"])?.map(|status| status == "ENABLED"))
}

/// What cannot be done must not look done.
fn absent(name: &str) -> Problem {
    refusal::rejected(format_args!("because this region has no data for the feature {name}"))
}

/// The older word for features: all of them are absent.
fn check_data_sources(input: &Input) -> Result<(), Problem> {
    let Some(sources) = input.object("dataSources", &["s3Logs", "kubernetes", "malwareProtection"])? else {
        return Ok(());
    };
    let s3 = sources.object("s3Logs", &["enable"])?.map(|it| it.boolean("enable")).transpose()?.flatten();
    let kubernetes = sources.object("kubernetes", &["auditLogs"])?;
    let kubernetes = kubernetes.map(|it| it.object("auditLogs", &["enable"])).transpose()?.flatten();
    let kubernetes = kubernetes.map(|it| it.boolean("enable")).transpose()?.flatten();
    let malware = sources.object("malwareProtection", &["scanEc2InstanceWithFindings"])?;
    let malware = malware.map(|it| it.object("scanEc2InstanceWithFindings", &["ebsVolumes"])).transpose()?.flatten();
    let malware = malware.map(|it| it.boolean("ebsVolumes")).transpose()?.flatten();
    for (name, is_enabled) in [("s3Logs", s3), ("kubernetes", kubernetes), ("malwareProtection", malware)] {
        if is_enabled == Some(true) {
            return Err(absent(name));
        }
    }
    Ok(())
}

/// The answer of `GetDetector`. What a region sees without being asked is what is called at its own endpoints, CloudTrail's
/// part; it sees neither the flows nor the names that machines look up, but for what they tell.
pub(super) fn shown(call: &JsonCall<'_>, watched: &Watched) -> Value {
    let settings = &watched.settings;
    let (on, off) = (json!({"status": status(settings.is_enabled)}), json!({"status": "DISABLED"}));
    let created = watched.created_at.as_secs();
    let base = |name: &str, is_enabled: bool| json!({"name": name, "status": status(is_enabled), "updatedAt": created});
    let mut features =
        vec![base("CLOUD_TRAIL", settings.is_enabled), base("DNS_LOGS", false), base("FLOW_LOGS", false)];
    features.extend(settings.features.iter().map(|(name, feature)| {
        let additional = feature
            .additional
            .iter()
            .map(|(name, own)| json!({"name": name, "status": status(own.is_enabled), "updatedAt": own.updated_at}));
        json!({
            "name": name,
            "status": status(feature.is_enabled),
            "updatedAt": feature.updated_at,
            "additionalConfiguration": additional.collect::<Vec<_>>(),
        })
    }));
    features.extend(ABSENT_FEATURES.iter().take(5).map(|name| base(name, false)));
    let partition = call.region.identity().partition.id();
    json!({
        "createdAt": moment(created),
        "findingPublishingFrequency": settings.frequency,
        "serviceRole": format!(
            "arn:{partition}:iam::{}:role/aws-service-role/guardduty.amazonaws.com/AWSServiceRoleForAmazonGuardDuty",
            watched.account
        ),
        "status": status(settings.is_enabled),
        "updatedAt": moment(watched.updated_at.as_secs()),
        "dataSources": {
            "cloudTrail": on,
            "dnsLogs": off,
            "flowLogs": off,
            "s3Logs": off,
            "kubernetes": {"auditLogs": off},
            "malwareProtection": {"scanEc2InstanceWithFindings": {"ebsVolumes": off}},
        },
        "tags": settings.tags,
        "features": features,
    })
}
