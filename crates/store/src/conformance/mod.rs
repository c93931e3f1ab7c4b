//! The suite that every store must pass. Feature `conformance`; for tests only.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes one test of each case. Each case takes a store that is empty and leaves it open.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "this is test code that other crates' tests call"
)]

mod accounts;
mod changes;
mod commands;
mod detectors;
mod epochs;
mod feed;
mod filled;
mod findings;
mod host_keys;
mod hosts;
mod inventory;
mod launches;
mod management;
mod nodes;
mod quarantines;
pub mod rates;
mod records;
pub mod samples;
mod sessions;

pub use accounts::*;
pub use changes::*;
pub use commands::*;
pub use detectors::*;
pub use epochs::*;
pub use feed::*;
pub use filled::fill;
pub use findings::*;
pub use host_keys::*;
pub use hosts::*;
pub use inventory::*;
pub use launches::*;
pub use management::*;
pub use nodes::*;
pub use quarantines::*;
pub use records::*;
pub use sessions::*;

/// Makes a `#[tokio::test]` of every case of the suite. `$make` is an expression that gives, for each test, an empty
/// store as an `Arc<dyn Store>` and something to keep alive while the test runs (a temporary directory, or `()`).
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr) => {
        $crate::conformance_tests!(@cases $make;
            launches_are_found_again,
            a_launch_is_whole_or_not_at_all,
            launches_at_once_are_answered_one_by_one,
            a_token_launches_once,
            a_token_is_its_accounts_own,
            a_launch_that_makes_no_sense_is_refused,
            a_launch_is_ordered_by_its_index,
            instances_are_found_by_their_ids,
            pages_have_no_gaps,
            all_that_live_are_sent,
            page_limits,
            the_life_of_an_instance,
            states_that_forbid_a_change,
            boot_generations_grow_and_never_wrap,
            termination_cuts_off_in_the_same_step,
            boots_cut_off_when_told,
            changes_are_for_all_or_none,
            other_accounts_instances_are_absent,
            change_limits,
            metadata_options_change_one_by_one,
            tags_are_set_and_removed,
            attachments_come_back,
            interfaces_go_with_attachments,
            attachments_are_nobody_elses,
            purge_forgets_what_ended_long_ago,
            purge_forgets_tokens_with_their_last_instance,
            operators_are_kept_and_never_replaced,
            operators_are_changed_and_forgotten,
            operators_of_an_account_have_names_of_their_own,
            accounts_are_kept_and_closed_once,
            account_limits,
            a_token_lets_one_host_join,
            a_token_has_an_end,
            one_of_many_joins_with_a_token,
            hosts_are_drained_and_evicted,
            machines_are_placed_on_hosts_that_take_them,
            attachments_are_a_hosts_own,
            host_limits,
            user_data_changes_while_stopped,
            key_pairs_are_their_accounts_own,
            epochs_are_kept_and_never_replaced,
            epochs_go_on_and_never_back,
            one_of_many_changes_an_epoch,
            secrets_are_sealed_anew_together_or_not_at_all,
            cut_offs_only_grow_stronger,
            cut_offs_since_a_moment,
            cut_offs_are_forgotten_by_age,
            quarantines_last_until_they_are_ended,
            the_end_of_a_quarantine_cuts_off_in_the_same_step,
            changes_of_quarantines_are_compared,
            each_release_cuts_off_more_than_the_one_before,
            quarantine_limits,
            host_keys_are_kept_and_compared,
            host_keys_are_forgotten_with_their_machine,
            host_key_limits,
            settings_are_compared_and_set,
            setting_limits,
            one_of_many_wins_a_setting,
            one_of_many_wins_a_token,
            roles_are_kept_until_they_are_deleted,
            registrations_are_compared_and_changed,
            registrations_end_with_their_machine,
            nodes_are_replaced_and_go_with_their_machine,
            node_limits,
            documents_are_kept_until_they_are_deleted,
            documents_are_their_accounts_own,
            document_limits,
            commands_come_back_as_far_as_they_have_come,
            what_has_ended_stays_as_it_ended,
            changes_of_commands_are_compared,
            what_agents_have_told_is_compared_too,
            who_sends_again_asks_as_well,
            claims_take_no_more_room_than_there_is,
            one_of_many_claims_the_last_place,
            commands_are_listed_in_pages,
            commands_are_their_accounts_own,
            finished_commands_are_forgotten,
            command_limits,
            inventory_is_replaced_by_type,
            inventory_without_content_is_what_it_was,
            inventory_is_forgotten_by_age,
            inventory_limits,
            sessions_end_once,
            sessions_are_carried_by_one,
            sessions_are_listed_in_pages,
            ended_sessions_are_forgotten,
            session_limits,
            an_account_has_one_detector,
            parts_go_with_their_detector,
            changes_of_detectors_are_told,
            agent_reports_are_replaced_and_go_with_their_machine,
            detector_limits,
            findings_are_replaced_by_their_ids,
            findings_are_listed_in_pages,
            findings_are_forgotten,
            findings_are_forgotten_where_there_are_most,
            finding_limits,
            nobody_hears_of_who_has_not_beaten,
            nodes_beat,
            changes_are_told,
            changes_of_commands_and_agents_are_told,
            what_is_forgotten_was_missed,
            a_closed_store_says_so,
        );
    };
    (@cases $make:expr; $($case:ident,)*) => {$(
        #[tokio::test]
        async fn $case() {
            let (store, _keep) = $make;
            $crate::conformance::$case(store).await;
        }
    )*};
}
