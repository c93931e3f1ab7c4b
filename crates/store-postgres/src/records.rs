//! Operators, epochs, cut-offs and settings as rows.

use core::fmt::Display;

use inborn_identity::{AccessKeyId, UnixTime};
use inborn_store::{
    Conflict, CutOff, CutOffScope, EpochChange, Operator, OperatorChange, RecordedCutOff, Resealing, Sealed,
    SealedEpoch, SealedPlace, SettingChange,
};

use crate::fault::{self, Outcome};
use crate::transaction::Session;
use crate::value::{Row, Value, values};

/// See [`inborn_store::Store::operators`].
pub(crate) async fn operators(session: &Session<'_>) -> Outcome<Vec<Operator>> {
    let sql = "SELECT access_key_id, sealed_secret, name, user_id, account, created_at, disabled FROM operators \
        ORDER BY access_key_id";
    let read = |row: &Row| {
        Ok(Operator {
            access_key_id: row.parsed("access_key_id")?,
            secret: Sealed::new(row.bytes("sealed_secret")?),
            name: row.text("name")?,
            user_id: row.text("user_id")?,
            account: row.parsed("account")?,
            created_at: row.moment("created_at")?,
            disabled: row.flag("disabled")?,
        })
    };
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_operator`].
pub(crate) async fn put_operator(session: &Session<'_>, operator: &Operator) -> Outcome<()> {
    // No index does that: stores of before have operators of one name, and what is restored is not to be refused for it.
    let sql = "SELECT 1 AS taken FROM operators WHERE account = $1 AND LOWER(name) = LOWER($2) AND access_key_id <> $3";
    let same = values![operator.account.to_string(), &operator.name, operator.access_key_id.as_str()];
    if session.row(sql, same).await?.is_some() {
        return Err(Conflict::OperatorName(operator.name.clone()).into());
    }
    let sql = "INSERT INTO operators (access_key_id, sealed_secret, name, user_id, account, created_at, disabled) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![
        operator.access_key_id.as_str(),
        operator.secret.as_bytes(),
        &operator.name,
        &operator.user_id,
        operator.account.to_string(),
        operator.created_at,
        operator.disabled,
    ];
    session.put(sql, row, "an operator").await
}

/// See [`inborn_store::Store::change_operator`].
pub(crate) async fn change_operator(
    session: &Session<'_>,
    (id, change): &(AccessKeyId, OperatorChange),
) -> Outcome<bool> {
    let sql = match change {
        OperatorChange::Enable => "UPDATE operators SET disabled = FALSE WHERE access_key_id = $1",
        OperatorChange::Disable => "UPDATE operators SET disabled = TRUE WHERE access_key_id = $1",
        OperatorChange::Delete => "DELETE FROM operators WHERE access_key_id = $1",
    };
    Ok(session.run(sql, values![id.as_str()]).await? > 0)
}

/// See [`inborn_store::Store::epochs`].
pub(crate) async fn epochs(session: &Session<'_>) -> Outcome<Vec<SealedEpoch>> {
    let read = |row: &Row| {
        Ok(SealedEpoch {
            id: row.number("id")?,
            blob: Sealed::new(row.bytes("sealed_root")?),
            created_at: row.moment("created_at")?,
            state: row.parsed("state")?,
            seals_from: row.moment_if_any("seals_from")?,
            ended_at: row.moment_if_any("ended_at")?,
            revoked: row.flag("revoked")?,
        })
    };
    let sql = "SELECT id, sealed_root, created_at, state, seals_from, ended_at, revoked FROM epochs ORDER BY id";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_epoch`].
pub(crate) async fn put_epoch(session: &Session<'_>, epoch: &SealedEpoch) -> Outcome<()> {
    let sql = "INSERT INTO epochs (id, sealed_root, created_at, state, seals_from, ended_at, revoked) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![
        epoch.id,
        epoch.blob.as_bytes(),
        epoch.created_at,
        epoch.state.as_str(),
        epoch.seals_from,
        epoch.ended_at,
        epoch.revoked,
    ];
    session.put(sql, row, "an epoch").await
}

/// See [`inborn_store::Store::change_epochs`].
pub(crate) async fn change_epochs(
    session: &Session<'_>,
    (changes, cut_offs): &(Vec<EpochChange>, Vec<RecordedCutOff>),
) -> Outcome<()> {
    let found = epochs(session).await?;
    for EpochChange { expected, after } in changes {
        if !found.contains(expected) {
            return Err(Conflict::EpochChanged(expected.id).into());
        }
        let sql = "UPDATE epochs SET sealed_root = $2, state = $3, seals_from = $4, ended_at = $5, revoked = $6 WHERE id = $1";
        let row = values![
            after.id,
            after.blob.as_bytes(),
            after.state.as_str(),
            after.seals_from,
            after.ended_at,
            after.revoked,
        ];
        session.run(sql, row).await?;
    }
    for cut_off in cut_offs {
        put_cut_off(session, cut_off).await?;
    }
    Ok(())
}

/// How many cut-offs are read at a time. A region may have a million, and a row on its way takes several times what a cut-off does.
const CUT_OFFS_AT_ONCE: usize = 4096;

/// See [`inborn_store::Store::cut_offs`]. The transaction sees one moment, so that pages fit together.
pub(crate) async fn cut_offs(session: &Session<'_>) -> Outcome<Vec<RecordedCutOff>> {
    let sql = format!(
        "SELECT kind, subject, threshold, made_at FROM cut_offs WHERE (kind, subject) > ($1, $2) \
         ORDER BY kind, subject LIMIT {CUT_OFFS_AT_ONCE}"
    );
    let (mut all, mut last) = (Vec::new(), (String::new(), String::new()));
    loop {
        let rows = session.rows(&sql, values![last.0.as_str(), last.1.as_str()]).await?;
        for row in &rows {
            all.push(recorded(row)?);
        }
        let Some(row) = rows.last().filter(|_| rows.len() == CUT_OFFS_AT_ONCE) else { return Ok(all) };
        last = (row.text("kind")?, row.text("subject")?);
    }
}

/// See [`inborn_store::Store::cut_offs_since`]. Of late there are few.
pub(crate) async fn cut_offs_since(session: &Session<'_>, since: &UnixTime) -> Outcome<Vec<RecordedCutOff>> {
    let sql = "SELECT kind, subject, threshold, made_at FROM cut_offs WHERE made_at >= $1 ORDER BY kind, subject";
    session.rows(sql, values![*since]).await?.iter().map(recorded).collect()
}

fn recorded(row: &Row) -> Outcome<RecordedCutOff> {
    let cut_off = match row.text("kind")?.as_str() {
        "dead" => CutOff::Dead { instance: row.parsed("subject")? },
        "older-boot" => CutOff::OlderBoot { instance: row.parsed("subject")?, below: row.number("threshold")? },
        "issued-before" => CutOff::IssuedBefore { scope: scope(row)?, before: row.moment("threshold")? },
        _ => return Err(fault::corrupt("cut_offs.kind is of no known kind")),
    };
    Ok(RecordedCutOff { cut_off, at: row.moment("made_at")? })
}

/// An id of an instance begins with a letter, one of an account with a digit.
fn scope(row: &Row) -> Outcome<CutOffScope> {
    let subject = row.text("subject")?;
    Ok(match subject.as_str() {
        ALL => CutOffScope::All,
        subject if subject.starts_with('i') => CutOffScope::Instance(row.parsed("subject")?),
        _ => CutOffScope::Account(row.parsed("subject")?),
    })
}

const ALL: &str = "*";

/// See [`inborn_store::Store::put_cut_off`].
pub(crate) async fn put_cut_off(session: &Session<'_>, recorded: &RecordedCutOff) -> Outcome<()> {
    write_cut_off(session, recorded, "").await.map(drop)
}

/// As [`put_cut_off`], unless there is one that is as strong already; gives whether it was written.
pub(crate) async fn put_stronger_cut_off(session: &Session<'_>, recorded: &RecordedCutOff) -> Outcome<bool> {
    let condition = " WHERE excluded.threshold > cut_offs.threshold";
    write_cut_off(session, recorded, condition).await.map(|written| written > 0)
}

async fn write_cut_off(session: &Session<'_>, recorded: &RecordedCutOff, condition: &str) -> Outcome<u64> {
    let (kind, subject, threshold) = match recorded.cut_off {
        CutOff::Dead { instance } => ("dead", instance.to_string(), 0_i64.into()),
        CutOff::OlderBoot { instance, below } => ("older-boot", instance.to_string(), below.into()),
        CutOff::IssuedBefore { scope, before } => ("issued-before", subject(scope), before.into()),
    };
    let sql = "INSERT INTO cut_offs (kind, subject, threshold, made_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (kind, subject) DO UPDATE SET \
        threshold = CASE WHEN excluded.threshold > cut_offs.threshold THEN excluded.threshold ELSE cut_offs.threshold END, \
        made_at = CASE WHEN excluded.made_at > cut_offs.made_at THEN excluded.made_at ELSE cut_offs.made_at END";
    session.run(&format!("{sql}{condition}"), &[kind.into(), subject.into(), threshold, recorded.at.into()]).await
}

fn subject(scope: CutOffScope) -> String {
    let text: &dyn Display = match &scope {
        CutOffScope::Instance(instance) => instance,
        CutOffScope::Account(account) => account,
        CutOffScope::All => &ALL,
    };
    text.to_string()
}

/// See [`inborn_store::Store::forget_cut_offs`].
pub(crate) async fn forget_cut_offs(session: &Session<'_>, before: &UnixTime) -> Outcome<u64> {
    session.run("DELETE FROM cut_offs WHERE made_at < $1", values![*before]).await
}

/// See [`inborn_store::Store::setting`].
pub(crate) async fn setting(session: &Session<'_>, name: &String) -> Outcome<Option<Vec<u8>>> {
    let row = session.row("SELECT value FROM settings WHERE name = $1", values![name]).await?;
    row.map(|row| row.bytes("value")).transpose()
}

/// A setting that nobody changes until this transaction has ended. Whoever has changed it since the transaction began has it begin again.
pub(crate) async fn held_setting(session: &Session<'_>, name: &String) -> Outcome<Option<Vec<u8>>> {
    let row = session.row("SELECT value FROM settings WHERE name = $1 FOR UPDATE", values![name]).await?;
    row.map(|row| row.bytes("value")).transpose()
}

/// See [`inborn_store::Store::put_setting`].
pub(crate) async fn put_setting(session: &Session<'_>, change: &SettingChange) -> Outcome<()> {
    if setting(session, &change.name).await? != change.expected {
        return Err(Conflict::SettingChanged(change.name.clone()).into());
    }
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) \
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    session.run(sql, values![&change.name, change.value.as_slice()]).await.map(drop)
}

/// See [`inborn_store::Store::setting_names`].
pub(crate) async fn setting_names(session: &Session<'_>) -> Outcome<Vec<String>> {
    let rows = session.rows("SELECT name FROM settings", &[]).await?;
    let mut names: Vec<String> = rows.iter().map(|row| row.text("name")).collect::<Outcome<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// See [`inborn_store::Store::reseal`].
pub(crate) async fn reseal(session: &Session<'_>, (all, filled): &(Vec<Resealing>, i64)) -> Outcome<()> {
    for Resealing { place, expected, after } in all {
        let (sql, key): (_, Value) = match place {
            SealedPlace::Epoch(id) => {
                ("UPDATE epochs SET sealed_root = $2 WHERE id = $1 AND sealed_root = $3", (*id).into())
            }
            SealedPlace::Operator(id) => (
                "UPDATE operators SET sealed_secret = $2 WHERE access_key_id = $1 AND sealed_secret = $3",
                Value::shown(id),
            ),
            SealedPlace::Setting(name) => {
                ("UPDATE settings SET value = $2 WHERE name = $1 AND value = $3", name.into())
            }
        };
        if session.run(sql, &[key, after.as_bytes().into(), expected.as_bytes().into()]).await? != 1 {
            return Err(Conflict::SecretChanged.into());
        }
    }
    // Last: what this transaction asks of it meanwhile is still as it was.
    if !all.is_empty() {
        session.run("UPDATE schema_version SET filled = $1 WHERE one = 1", values![*filled]).await?;
    }
    Ok(())
}
