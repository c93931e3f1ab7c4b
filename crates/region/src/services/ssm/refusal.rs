//! What Systems Manager answers when a request cannot be done. Source: its API reference and botocore's model, 2014-11-06.

use inborn_identity::{AccountId, InstanceId};
use inborn_store::StoreError;
use inborn_wire::error::Problem;

use crate::documents::DOCUMENTS_MAX;
use crate::host_management::SettingError;

fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
    Problem::Service { status, code, message: message.into() }
}

pub(super) fn setting_not_found(id: &str) -> Problem {
    let shown: String = id.chars().take(128).collect();
    refuse(400, "ServiceSettingNotFound", format!("The service setting {shown} is not served here."))
}

pub(super) fn too_many_updates() -> Problem {
    refuse(400, "TooManyUpdates", "There are concurrent updates for a resource that supports one update at a time.")
}

/// Agents wait half an hour after this one, so it is for what does not mend itself.
pub(super) fn fingerprint() -> Problem {
    let message = "The fingerprint is not that of the machine whose credentials signed the request.";
    refuse(400, "MachineFingerprintDoesNotMatch", message)
}

pub(super) fn activation() -> Problem {
    let message = "Hybrid activations are not served here: a machine registers with its instance identity role alone.";
    refuse(400, "InvalidActivation", message)
}

pub(super) fn public_key() -> Problem {
    let message = "The public key is not an RSA key of 2048 to 8192 bits, as SubjectPublicKeyInfo in DER and base64, of type \
                   Rsa.";
    refuse(400, "InvalidPublicKey", message)
}

pub(super) fn already_registered() -> Problem {
    let message =
        "The instance is registered with another key. If its disk was replaced, deregister it as the operator.";
    refuse(400, "InstanceAlreadyRegistered", message)
}

pub(super) fn key_already_registered() -> Problem {
    refuse(400, "PublicKeyAlreadyRegistered", "The instance has registered this public key already.")
}

pub(super) fn not_registered(id: &str) -> Problem {
    let shown: String = id.chars().take(128).collect();
    refuse(400, "InvalidInstanceId", format!("Instance {shown} is not registered."))
}

/// To the letter: people search for it.
pub(super) fn not_valid(ids: &[&str], account: AccountId) -> Problem {
    let shown: Vec<String> = ids.iter().map(|id| id.chars().take(32).collect()).collect();
    let message = format!("Instances [[{}]] not in a valid state for account {account}", shown.join(", "));
    refuse(400, "InvalidInstanceId", message)
}

pub(super) fn duplicate_instance() -> Problem {
    refuse(400, "DuplicateInstanceId", "An instance is named twice.")
}

/// To the letter.
pub(super) fn platform(instance: InstanceId, platform: &str) -> Problem {
    let message = format!("Cannot perform operation for instance id {instance} of platform type {platform}");
    refuse(400, "UnsupportedPlatformType", message)
}

pub(super) fn parameters(message: String) -> Problem {
    refuse(400, "InvalidParameters", message)
}

pub(super) fn command_id() -> Problem {
    refuse(400, "InvalidCommandId", "The specified command ID isn't valid. Verify the ID and try again.")
}

pub(super) fn no_invocation() -> Problem {
    let message = "The command ID and managed node ID you specified didn't match any invocations. Verify the command ID \
                   and the managed node ID and try again.";
    refuse(400, "InvocationDoesNotExist", message)
}

pub(super) fn plugin_name() -> Problem {
    refuse(400, "InvalidPluginName", "The plugin name isn't valid.")
}

pub(super) fn output_folder() -> Problem {
    refuse(
        400,
        "InvalidOutputFolder",
        "The S3 bucket doesn't exist: there is no S3 here, and output is kept by the region.",
    )
}

pub(super) fn notification() -> Problem {
    refuse(400, "InvalidNotificationConfig", "There is no SNS here: nobody would be told.")
}

pub(super) fn document(name: &str) -> Problem {
    let shown: String = name.chars().take(128).collect();
    refuse(400, "InvalidDocument", format!("Document with name {shown} does not exist."))
}

pub(super) fn document_version() -> Problem {
    refuse(400, "InvalidDocumentVersion", "The document version isn't valid or doesn't exist.")
}

pub(super) fn document_hash() -> Problem {
    refuse(400, "InvalidDocument", "The document does not have the SHA-256 hash that the request names.")
}

pub(super) fn document_content(message: String) -> Problem {
    refuse(400, "InvalidDocumentContent", message)
}

pub(super) fn document_schema(message: String) -> Problem {
    refuse(400, "InvalidDocumentSchemaVersion", message)
}

pub(super) fn document_too_large(message: &str) -> Problem {
    refuse(400, "MaxDocumentSizeExceeded", message)
}

pub(super) fn document_exists() -> Problem {
    refuse(400, "DocumentAlreadyExists", "The specified document already exists.")
}

pub(super) fn too_many_documents() -> Problem {
    refuse(400, "DocumentLimitExceeded", format!("You can have at most {DOCUMENTS_MAX} active SSM documents."))
}

pub(super) fn filter_key(key: &str) -> Problem {
    let shown: String = key.chars().take(128).collect();
    refuse(400, "InvalidFilterKey", format!("The filter key {shown} is not valid."))
}

pub(super) fn filter_value(message: String) -> Problem {
    refuse(400, "InvalidInstanceInformationFilterValue", message)
}

pub(super) fn property_filter_value(message: String) -> Problem {
    refuse(400, "InvalidInstancePropertyFilterValue", message)
}

/// Of inventory and of compliance.
pub(super) fn filter(key: &str) -> Problem {
    let shown: String = key.chars().take(128).collect();
    refuse(400, "InvalidFilter", format!("The filter name isn't valid: {shown}"))
}

pub(super) fn type_name(name: &str) -> Problem {
    let shown: String = name.chars().take(128).collect();
    refuse(400, "InvalidTypeNameException", format!("The parameter type name isn't valid: {shown}"))
}

pub(super) fn item_content(of: &str, why: &str) -> Problem {
    refuse(400, "InvalidItemContentException", format!("One or more content items of {of} isn't valid: {why}."))
}

pub(super) fn item_context(of: &str) -> Problem {
    let message = format!("The Context attribute isn't allowed for the inventory type {of}.");
    refuse(400, "UnsupportedInventoryItemContextException", message)
}

pub(super) fn item_size(of: &str) -> Problem {
    refuse(400, "ItemSizeLimitExceededException", format!("The inventory item {of} has exceeded the size limit."))
}

pub(super) fn total_size() -> Problem {
    let message = "The size of inventory data has exceeded the total size limit for the resource.";
    refuse(400, "TotalSizeLimitExceededException", message)
}

/// An agent sends everything anew after this one.
pub(super) fn content_mismatch(of: &str) -> Problem {
    let message = format!("The inventory item {of} has no content, and its hash is not that of what is known.");
    refuse(400, "ItemContentMismatchException", message)
}

pub(super) fn custom_types() -> Problem {
    let message = "You have exceeded the limit for custom schemas. Delete one or more custom schemas and try again.";
    refuse(400, "CustomSchemaCountLimitExceededException", message)
}

pub(super) fn compliance_types() -> Problem {
    let message = "You specified too many custom compliance types. You can specify a maximum of 10 different types.";
    refuse(400, "ComplianceTypeCountLimitExceededException", message)
}

pub(super) fn resource_type() -> Problem {
    refuse(400, "InvalidResourceType", "The resource type isn't valid: it is ManagedInstance.")
}

pub(super) fn resource_id() -> Problem {
    refuse(400, "InvalidResourceId", "The resource ID isn't valid: it is that of one node.")
}

pub(super) fn aggregator() -> Problem {
    refuse(400, "InvalidAggregatorException", "Aggregations of inventory are not served here.")
}

pub(super) fn result_attribute() -> Problem {
    refuse(400, "InvalidResultAttributeException", "A call has at most one result attribute.")
}

pub(super) fn next_token() -> Problem {
    refuse(400, "InvalidNextToken", "The specified token is not valid.")
}

pub(super) fn not_connected(target: &str) -> Problem {
    let shown: String = target.chars().take(128).collect();
    refuse(400, "TargetNotConnected", format!("{shown} is not connected."))
}

pub(super) fn session_document(name: &str) -> Problem {
    let shown: String = name.chars().take(128).collect();
    refuse(400, "InvalidDocument", format!("Document with name {shown} does not exist."))
}

pub(super) fn session_parameters(message: String) -> Problem {
    refuse(400, "InvalidParameters", message)
}

pub(super) fn no_session(id: &str) -> Problem {
    let shown: String = id.chars().take(128).collect();
    refuse(400, "DoesNotExistException", format!("Session {shown} does not exist."))
}

/// Not AWS's words: what it answers to a wrong second signature is not known. The code is that of a wrong first one.
pub(super) fn second_signature() -> Problem {
    let message = "SSM-AsymmetricKeyAuthorization does not match the Authorization header and the public key that the \
                   instance is registered with.";
    refuse(400, "InvalidSignatureException", message)
}

/// To the letter: agents print it, and people search for it.
pub(super) fn not_configured(account: AccountId) -> Problem {
    let message = format!("Systems Manager's instance management role is not configured for account: {account}");
    refuse(400, "AccessDeniedException", message)
}

/// A store's refusal. What only an operator of the region can mend is said in words of the region.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Full => refuse(
            500,
            "InternalServerError",
            "The region cannot store this: its disk is full. Free some space in its data directory, or where its database is, and try again.",
        ),
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Problem::Unavailable,
        // It ended while it called.
        StoreError::NotFound(_) => Problem::UnknownKey,
        StoreError::Conflict(_) => too_many_updates(),
        error => {
            tracing::error!(%error, "the store failed");
            refuse(500, "InternalServerError", "An error occurred on the server side.")
        }
    }
}

pub(super) fn of_setting(error: SettingError) -> Problem {
    match error {
        SettingError::Changed | SettingError::TooOften => too_many_updates(),
        SettingError::Store(error) => of_store(error),
    }
}
