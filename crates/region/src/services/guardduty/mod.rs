//! GuardDuty: detectors, what is set up at them, what they found, and which machines they cover. For operators. Telemetry comes
//! in at an endpoint of its own. `Inborn.QueryEvents` is of ours.
//!
//! Source of names, members and limits: botocore's model `guardduty/2017-11-28`.

mod address_set;
mod archive_findings;
mod coverage;
mod create_detector;
mod create_filter;
mod create_ip_set;
mod create_sample_findings;
mod create_threat_intel_set;
mod delete_detector;
mod delete_filter;
mod delete_ip_set;
mod delete_threat_intel_set;
mod detector;
mod filter;
mod finding;
mod get_coverage_statistics;
mod get_detector;
mod get_filter;
mod get_findings;
mod get_findings_statistics;
mod get_ip_set;
mod get_threat_intel_set;
mod list_coverage;
mod list_detectors;
mod list_filters;
mod list_findings;
mod list_ip_sets;
mod list_tags_for_resource;
mod list_threat_intel_sets;
mod page;
mod query_events;
mod refusal;
mod request;
mod tag_resource;
mod tagged;
mod unarchive_findings;
mod untag_resource;
mod update_detector;
mod update_filter;
mod update_findings_feedback;
mod update_ip_set;
mod update_threat_intel_set;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome, Route};
use crate::{Effect, Operation, Protocol, Service};

const OPERATORS: &[CallerKind] = &[CallerKind::Operator];

const fn reads(name: &'static str, run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>) -> Operation {
    Operation { name, effect: Effect::ReadOnly, callers: OPERATORS, run: Handler::Json(run) }
}

const fn changes(name: &'static str, run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>) -> Operation {
    Operation { name, effect: Effect::Mutating, callers: OPERATORS, run: Handler::Json(run) }
}

const fn route(method: &'static str, path: &'static str, operation: &'static str) -> Route {
    Route { method, path, query: &[], operation, is_open: false }
}

/// Of a list, in pages.
const fn pages(path: &'static str, operation: &'static str) -> Route {
    Route { method: "GET", path, query: &["maxResults", "nextToken"], operation, is_open: false }
}

pub(super) static SERVICE: Service = Service {
    name: "guardduty",
    signing_name: "guardduty",
    protocol: Protocol::Rest {
        routes: &[
            route("POST", "/inborn/events", "Inborn.QueryEvents"),
            route("POST", "/detector", "CreateDetector"),
            pages("/detector", "ListDetectors"),
            route("GET", "/detector/{detectorId}", "GetDetector"),
            route("POST", "/detector/{detectorId}", "UpdateDetector"),
            route("DELETE", "/detector/{detectorId}", "DeleteDetector"),
            route("POST", "/detector/{detectorId}/coverage", "ListCoverage"),
            route("POST", "/detector/{detectorId}/coverage/statistics", "GetCoverageStatistics"),
            route("POST", "/detector/{detectorId}/findings", "ListFindings"),
            route("POST", "/detector/{detectorId}/findings/get", "GetFindings"),
            route("POST", "/detector/{detectorId}/findings/statistics", "GetFindingsStatistics"),
            route("POST", "/detector/{detectorId}/findings/archive", "ArchiveFindings"),
            route("POST", "/detector/{detectorId}/findings/unarchive", "UnarchiveFindings"),
            route("POST", "/detector/{detectorId}/findings/feedback", "UpdateFindingsFeedback"),
            route("POST", "/detector/{detectorId}/findings/create", "CreateSampleFindings"),
            route("POST", "/detector/{detectorId}/filter", "CreateFilter"),
            pages("/detector/{detectorId}/filter", "ListFilters"),
            route("GET", "/detector/{detectorId}/filter/{filterName}", "GetFilter"),
            route("POST", "/detector/{detectorId}/filter/{filterName}", "UpdateFilter"),
            route("DELETE", "/detector/{detectorId}/filter/{filterName}", "DeleteFilter"),
            route("POST", "/detector/{detectorId}/ipset", "CreateIPSet"),
            pages("/detector/{detectorId}/ipset", "ListIPSets"),
            route("GET", "/detector/{detectorId}/ipset/{ipSetId}", "GetIPSet"),
            route("POST", "/detector/{detectorId}/ipset/{ipSetId}", "UpdateIPSet"),
            route("DELETE", "/detector/{detectorId}/ipset/{ipSetId}", "DeleteIPSet"),
            route("POST", "/detector/{detectorId}/threatintelset", "CreateThreatIntelSet"),
            pages("/detector/{detectorId}/threatintelset", "ListThreatIntelSets"),
            route("GET", "/detector/{detectorId}/threatintelset/{threatIntelSetId}", "GetThreatIntelSet"),
            route("POST", "/detector/{detectorId}/threatintelset/{threatIntelSetId}", "UpdateThreatIntelSet"),
            route("DELETE", "/detector/{detectorId}/threatintelset/{threatIntelSetId}", "DeleteThreatIntelSet"),
            route("POST", "/tags/{resourceArn}", "TagResource"),
            Route {
                method: "DELETE",
                path: "/tags/{resourceArn}",
                query: &["tagKeys[]"],
                operation: "UntagResource",
                is_open: false,
            },
            route("GET", "/tags/{resourceArn}", "ListTagsForResource"),
        ],
    },
    is_global: false,
    query_auth: false,
    version: None,
    // Two hundred tags with four bytes to each character take 310 KiB.
    body_bytes_max: 512 * 1024,
    operations: &[
        reads("Inborn.QueryEvents", query_events::run),
        changes("ArchiveFindings", archive_findings::run),
        changes("CreateDetector", create_detector::run),
        changes("CreateFilter", create_filter::run),
        changes("CreateIPSet", create_ip_set::run),
        changes("CreateSampleFindings", create_sample_findings::run),
        changes("CreateThreatIntelSet", create_threat_intel_set::run),
        changes("DeleteDetector", delete_detector::run),
        changes("DeleteFilter", delete_filter::run),
        changes("DeleteIPSet", delete_ip_set::run),
        changes("DeleteThreatIntelSet", delete_threat_intel_set::run),
        reads("GetCoverageStatistics", get_coverage_statistics::run),
        reads("GetDetector", get_detector::run),
        reads("GetFilter", get_filter::run),
        reads("GetFindings", get_findings::run),
        reads("GetFindingsStatistics", get_findings_statistics::run),
        reads("GetIPSet", get_ip_set::run),
        reads("GetThreatIntelSet", get_threat_intel_set::run),
        reads("ListCoverage", list_coverage::run),
        reads("ListDetectors", list_detectors::run),
        reads("ListFilters", list_filters::run),
        reads("ListFindings", list_findings::run),
        reads("ListIPSets", list_ip_sets::run),
        reads("ListTagsForResource", list_tags_for_resource::run),
        reads("ListThreatIntelSets", list_threat_intel_sets::run),
        changes("TagResource", tag_resource::run),
        changes("UnarchiveFindings", unarchive_findings::run),
        changes("UntagResource", untag_resource::run),
        changes("UpdateDetector", update_detector::run),
        changes("UpdateFilter", update_filter::run),
        changes("UpdateFindingsFeedback", update_findings_feedback::run),
        changes("UpdateIPSet", update_ip_set::run),
        changes("UpdateThreatIntelSet", update_threat_intel_set::run),
    ],
};
