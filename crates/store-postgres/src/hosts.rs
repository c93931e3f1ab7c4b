//! Hosts and the tokens that let them join, as rows.

use inborn_identity::{HostId, UnixTime};
use inborn_store::{Conflict, Host, HostChange, HostJoin, JoinToken, accounts_from_column, accounts_to_column};

use crate::fault::{self, Outcome};
use crate::transaction::Session;
use crate::value::{Insertion, Row, Value, values};

const SELECT: &str = "SELECT id, name, state, public_key, accounts, joined_at, seen_at FROM hosts";

/// See [`inborn_store::Store::hosts`].
pub(crate) async fn all(session: &Session<'_>) -> Outcome<Vec<Host>> {
    session.rows(&format!("{SELECT} ORDER BY id"), &[]).await?.iter().map(read).collect()
}

/// The host of this id.
pub(crate) async fn one(session: &Session<'_>, id: HostId) -> Outcome<Option<Host>> {
    session.row(&format!("{SELECT} WHERE id = $1"), &[Value::shown(id)]).await?.as_ref().map(read).transpose()
}

/// The host of this id, its row written as it is: of a launch on it and an eviction at the same time the second begins again.
pub(crate) async fn claim(session: &Session<'_>, id: HostId) -> Outcome<Option<Host>> {
    session.run("UPDATE hosts SET state = state WHERE id = $1", &[Value::shown(id)]).await?;
    one(session, id).await
}

/// A host as somebody has found it who is about to write down what was decided by that.
pub(crate) struct FoundHost {
    pub(crate) host: Host,
    /// Its accounts, as they are in the row.
    accounts: String,
}

impl FoundHost {
    /// Those of some ids.
    pub(crate) const SELECT: &str =
        "SELECT id, name, state, public_key, accounts, joined_at, seen_at FROM hosts WHERE id = ANY($1) ORDER BY id";

    /// As [`claim`], of those that are still as they were found: ids, states and accounts.
    pub(crate) const CLAIM: Insertion = Insertion {
        one: "UPDATE hosts SET state = $2 WHERE hosts.id = $1 AND hosts.state = $2 AND hosts.accounts = $3",
        many: "UPDATE hosts SET state = found.state FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), \
            CAST($3 AS TEXT[])) AS found (id, state, accounts) \
            WHERE hosts.id = found.id AND hosts.state = found.state AND hosts.accounts = found.accounts",
    };

    pub(crate) fn read(row: &Row) -> Outcome<Self> {
        Ok(Self { host: read(row)?, accounts: row.text("accounts")? })
    }

    /// What [`FoundHost::CLAIM`] takes of it.
    pub(crate) fn row(&self) -> Vec<Value> {
        values![self.host.id.to_string(), self.host.state.as_str(), &self.accounts].to_vec()
    }
}

fn read(row: &Row) -> Outcome<Host> {
    let accounts = accounts_from_column(&row.text("accounts")?);
    Ok(Host {
        id: row.parsed("id")?,
        name: row.text("name")?,
        state: row.parsed("state")?,
        public_key: row.bytes("public_key")?,
        accounts: accounts.ok_or_else(|| fault::corrupt("hosts.accounts is no list of them"))?,
        joined_at: row.moment("joined_at")?,
        seen_at: row.moment("seen_at")?,
    })
}

/// See [`inborn_store::Store::put_join_token`].
pub(crate) async fn put_token(session: &Session<'_>, token: &JoinToken) -> Outcome<()> {
    let sql = "INSERT INTO join_tokens (digest, accounts, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    let row =
        values![token.digest.as_slice(), accounts_to_column(&token.accounts), token.created_at, token.expires_at,];
    session.put(sql, row, "a join token").await
}

/// See [`inborn_store::Store::join_host`]. Of two who come with one token, the second begins again and finds it gone.
pub(crate) async fn join(session: &Session<'_>, join: &HostJoin) -> Outcome<Host> {
    let sql = "SELECT accounts, created_at, expires_at FROM join_tokens WHERE digest = $1";
    let row = session.row(sql, values![join.digest.as_slice()]).await?.ok_or(Conflict::JoinTokenRefused)?;
    let accounts = accounts_from_column(&row.text("accounts")?);
    let token = JoinToken {
        digest: join.digest,
        accounts: accounts.ok_or_else(|| fault::corrupt("join_tokens.accounts is no list of them"))?,
        created_at: row.moment("created_at")?,
        expires_at: row.moment("expires_at")?,
    };
    if join.at >= token.expires_at {
        return Err(Conflict::JoinTokenRefused.into());
    }
    session.run("DELETE FROM join_tokens WHERE digest = $1", values![join.digest.as_slice()]).await?;
    let host = join.host(&token);
    let sql = "INSERT INTO hosts (id, name, state, public_key, accounts, joined_at, seen_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![
        host.id.to_string(),
        &host.name,
        host.state.as_str(),
        host.public_key.as_slice(),
        accounts_to_column(&host.accounts),
        host.joined_at,
        host.seen_at,
    ];
    session.put(sql, row, "a host").await?;
    Ok(host)
}

/// See [`inborn_store::Store::change_host`].
pub(crate) async fn change(session: &Session<'_>, (id, change): &(HostId, HostChange)) -> Outcome<Option<Host>> {
    let row = session.row(&format!("{SELECT} WHERE id = $1 FOR UPDATE"), &[Value::shown(id)]).await?;
    let Some(before) = row.as_ref().map(read).transpose()? else { return Ok(None) };
    let after = change.apply(&before);
    if after != before {
        let sql = "UPDATE hosts SET state = $2, seen_at = $3 WHERE id = $1";
        session.run(sql, values![id.to_string(), after.state.as_str(), after.seen_at]).await?;
    }
    Ok(Some(after))
}

/// See [`inborn_store::Store::forget_join_tokens`].
pub(crate) async fn forget_tokens(session: &Session<'_>, ended_before: &UnixTime) -> Outcome<u64> {
    session.run("DELETE FROM join_tokens WHERE expires_at < $1", values![*ended_before]).await
}
