//! The one statement of launches that go together, and what its failure says of them.

use deadpool_postgres::ClientWrapper;
use inborn_store::{LaunchRequest, StoreError, Topic};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::{Hosts, named};
use crate::fault::{self, Fault, Outcome};
use crate::feed::{self, Turn};
use crate::hosts::FoundHost;
use crate::instances;
use crate::schema;
use crate::transaction::Query;
use crate::value::{Insertion, Row, Value, values};

/// Tokens, each of an account, a digest, and the reservation it stands for.
const NAME: Insertion = Insertion {
    one: "INSERT INTO launches (account, client_token, fingerprint, reservation_id) VALUES ($1, $2, $3, $4)",
    many: "INSERT INTO launches (account, client_token, fingerprint, reservation_id) \
        SELECT account, client_token, fingerprint, reservation_id FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), \
        CAST($3 AS BYTEA[]), CAST($4 AS TEXT[])) AS named (account, client_token, fingerprint, reservation_id)",
};

/// Why a statement for several launches came to nothing.
pub(super) enum Failure {
    /// Nothing of it has happened, by what one of the launches is.
    Refused,
    /// Nothing of it has happened, by what the database is.
    Failed(StoreError),
    /// The connection has ended, and nobody knows what has happened. Another one can be asked.
    Broken,
    /// Nobody knows what has happened.
    Unknown(StoreError),
}

/// Launches all of them or none.
pub(super) async fn make(
    client: &ClientWrapper,
    requests: &[&LaunchRequest],
    turn: Option<Turn>,
    filled: i64,
) -> Result<(), Failure> {
    let hosts = hosts_of(client, requests).await.map_err(nothing_happened)?;
    let takes = |id, account| hosts.iter().any(|found| found.host.id == id && found.host.takes(account));
    if !requests.iter().all(|request| named(request).all(|id| takes(id, request.account))) {
        return Err(Failure::Refused);
    }
    let (sql, values) = statement(requests, &hosts, turn, filled).map_err(nothing_happened)?.into_parts();
    let prepared = client.prepare_cached(&sql).await;
    let prepared = prepared.map_err(|error| nothing_happened(fault::from_statement(&error)))?;
    let values: Vec<_> = values.iter().map(Value::as_sql).collect();
    client.query(&prepared, &values).await.map(drop).map_err(|error| why(&error))
}

/// What would be tried again is: by each of them, on another connection.
fn nothing_happened(fault: Fault) -> Failure {
    match fault {
        Fault::Again(_) => Failure::Refused,
        Fault::Final(error) => Failure::Failed(error),
    }
}

/// Why the statement did not come to its end.
fn why(error: &Error) -> Failure {
    match error.code().map(meaning) {
        Some(Meaning::Refusal) => Failure::Refused,
        Some(Meaning::Lack) => nothing_happened(fault::from_statement(error)),
        Some(Meaning::End) => Failure::Broken,
        None if fault::is_of_the_connection(error) => Failure::Broken,
        Some(Meaning::None) | None => {
            Failure::Unknown(StoreError::Io(format!("{}; the launch may have taken effect", fault::says(error))))
        }
    }
}

/// What a code says of a statement that is its own transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    /// It was rolled back by what is in it, or by another transaction in its way.
    Refusal,
    /// It was rolled back, and the database lacks something.
    Lack,
    /// The connection has ended, or the database itself cannot tell. It may have come to its end before.
    End,
    /// Nothing: an end may have been under way. Of a statement that took too long, too: not every one of the three databases knows then
    /// whether it had ended.
    None,
}

fn meaning(code: &SqlState) -> Meaning {
    match code {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Meaning::Refusal,
        &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::DISK_FULL => Meaning::Lack,
        &SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => Meaning::End,
        code if fault::is_interruption(code) => Meaning::End,
        // A value that it cannot take (as the nought by which it divides if the database is another), a constraint, a text that is too
        // long for an index.
        code if ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)) => Meaning::Refusal,
        _ => Meaning::None,
    }
}

/// The hosts that the launches name, as they are. The statement finds out by itself if one is another by then.
async fn hosts_of(client: &ClientWrapper, requests: &[&LaunchRequest]) -> Outcome<Vec<FoundHost>> {
    let ids: Hosts = requests.iter().flat_map(|request| named(request)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let prepared = client.prepare_cached(FoundHost::SELECT).await.map_err(|error| fault::from_statement(&error))?;
    let ids = Value::all(ids);
    let rows = client.query(&prepared, &[ids.as_sql()]).await.map_err(|error| fault::from_statement(&error))?;
    rows.into_iter().map(|row| FoundHost::read(&Row(row))).collect()
}

/// All that is written of these launches, in one statement, which fails as a whole if the database is not the one that was
/// opened (see [`schema::must_be_as_opened`]) or a host is no longer what was found.
fn statement(requests: &[&LaunchRequest], hosts: &[FoundHost], turn: Option<Turn>, filled: i64) -> Outcome<Query> {
    let instances = || requests.iter().flat_map(|request| &request.instances);
    let mut query = Query::new("", &[]);
    let mut insert = |before: &str, what: &Insertion, rows: Vec<Vec<Value>>, behind: &str| {
        let (sql, values) = what.of(rows)?;
        query.push_part(before, sql, values, behind);
        Outcome::Ok(())
    };
    insert("WITH launched AS (", &instances::INSERT, instances().map(instances::row).collect(), " RETURNING id)")?;
    let named = requests.iter().filter_map(|request| name(request)).collect();
    insert(", named AS (", &NAME, named, " RETURNING reservation_id)")?;
    let user_data = instances().filter_map(instances::user_data).collect();
    insert(", filled_in AS (", &instances::INSERT_USER_DATA, user_data, " RETURNING instance_id)")?;
    let tags = instances().flat_map(instances::tags).collect();
    insert(", tagged AS (", &instances::INSERT_TAGS, tags, " RETURNING instance_id)")?;
    if let Some(turn) = turn {
        let topic = Topic::Instances(instances().map(|instance| instance.id).collect());
        query.push_part(", entered AS (", feed::INSERT, feed::row(turn, 0, &topic), " RETURNING number)");
    }
    let (sql, claimed) = FoundHost::CLAIM.of(hosts.iter().map(FoundHost::row).collect())?;
    query.push_part(", claimed AS (", sql, claimed, " RETURNING hosts.id)");
    // There is no other way to end a statement by a condition that all three databases have.
    query.push_part(
        "",
        " SELECT 1 / COUNT(1) FROM schema_version WHERE one = 1 AND filled = $1 AND usable_from <= $2",
        values![filled, schema::known()].to_vec(),
        "",
    );
    if !hosts.is_empty() {
        let sql = " AND (SELECT COUNT(1) FROM claimed) = $1";
        query.push_part("", sql, values![i64::try_from(hosts.len()).unwrap_or(i64::MAX)].to_vec(), "");
    }
    Ok(query)
}

/// The values of [`NAME`].
fn name(request: &LaunchRequest) -> Option<Vec<Value>> {
    let token = request.client_token.as_ref()?;
    let fingerprint = request.fingerprint.as_slice();
    Some(values![request.account.to_string(), token, fingerprint, &request.reservation_id].to_vec())
}

#[cfg(test)]
mod tests {
    use inborn_store::conformance::samples::{bare, full, launch, launch_with_token};

    use super::*;

    #[test]
    fn what_codes_say_of_a_statement() {
        let refused = ["22012", "23505", "23503", "23514", "40001", "40P01", "54000"];
        let lacking = ["25006", "53100"];
        let ended = ["40003", "57P01", "08006", "53300"];
        let nothing = ["57014", "XX000", "55P03", "42601"];
        for (codes, expected) in [
            (&refused[..], Meaning::Refusal),
            (&lacking[..], Meaning::Lack),
            (&ended[..], Meaning::End),
            (&nothing[..], Meaning::None),
        ] {
            for code in codes {
                assert_eq!(meaning(&SqlState::from_code(code)), expected, "{code}");
            }
        }
    }

    #[test]
    fn a_statement_says_what_there_is_to_say() {
        let sql = |request: &LaunchRequest| statement(&[request], &[], None, 7).unwrap().into_parts();
        let (plain, values) = sql(&launch(vec![bare(1)]));
        assert_eq!(values.len(), 33, "31 columns, and what the database has to be");
        assert!(plain.ends_with("WHERE one = 1 AND filled = $32 AND usable_from <= $33"), "{plain}");
        let (all, values) = sql(&launch_with_token(vec![full(1)], "token", 1));
        assert_eq!(values.len(), 33 + 4 + 2 + 3);
        // One row is not taken out of arrays: that alone is a fifth of what a launch costs the server.
        assert!(!plain.contains("UNNEST"), "{plain}");
        let (two, values) = sql(&launch(vec![bare(1), bare(2)]));
        assert!(two.contains("UNNEST") && values.len() == 33, "{two}");
        for table in ["instances (", "launches (", "instance_user_data (", "instance_tags ("] {
            assert!(all.contains(&format!("INSERT INTO {table}")), "{table}");
            assert_eq!(plain.contains(&format!("INSERT INTO {table}")), table == "instances (");
        }
    }
}
