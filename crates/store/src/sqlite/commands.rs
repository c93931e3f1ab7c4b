//! Commands and what became of them as rows.

use std::collections::{BTreeMap, BTreeSet};

use inborn_identity::InstanceId;
use rusqlite::{Connection, Row, ToSql, params};

use super::fault::{self, Outcome};
use super::records::{column, moment, parsed, time};
use crate::{
    Command, CommandChange, CommandOutcome, CommandProgress, CommandQuery, CommandRetention, CommandStep,
    FoundInvocation, Invocation, InvocationBasis, InvocationChange, SentCommand,
};

/// The most commands that one [`crate::Store::forget_commands`] forgets, so that it does not hold up other writes for long.
const FORGOTTEN_MAX: u32 = 200;

/// See [`crate::Store::put_command`].
pub(super) fn put(connection: &Connection, sent: &SentCommand) -> Outcome<()> {
    let SentCommand { command, content, invocations } = sent;
    let progress = command.progress;
    let sql = "INSERT INTO commands (id, requested_at, document_name, content, parameters, targets, comment, \
        delivery_seconds, execution_seconds, concurrency_max, errors_max, state, is_open, target_count, \
        completed_count, error_count, delivery_timed_out_count, account) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
    let row = params![
        command.id,
        time(command.requested_at),
        command.document_name,
        if progress.state.is_terminal() { "" } else { content },
        command.parameters,
        command.targets,
        command.comment,
        command.delivery_seconds,
        command.execution_seconds,
        command.concurrency_max,
        command.errors_max,
        progress.state.as_str(),
        !progress.state.is_terminal(),
        progress.targets,
        progress.completed,
        progress.errors,
        progress.delivery_timed_out,
        command.account.to_string(),
    ];
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map_err(|error| fault::from_insertion(error, "a command"))?;
    for invocation in invocations {
        let sql = "INSERT INTO invocations (command_id, instance_id, requested_at, instance_name, state, \
            acknowledged_at, trace) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let row = params![
            invocation.command,
            invocation.instance.to_string(),
            time(command.requested_at),
            invocation.instance_name,
            invocation.state.as_str(),
            invocation.acknowledged_at.map(time),
            invocation.trace,
        ];
        let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
        inserted.map_err(|error| fault::from_insertion(error, "an invocation"))?;
        put_steps(connection, invocation)?;
    }
    Ok(())
}

/// See [`crate::Store::change_commands`].
pub(super) fn change(connection: &Connection, changes: &[CommandChange]) -> Outcome<Vec<CommandOutcome>> {
    changes.iter().map(|change| change_one(connection, change)).collect()
}

fn change_one(connection: &Connection, change: &CommandChange) -> Outcome<CommandOutcome> {
    let sql = "SELECT * FROM commands WHERE id = ?1";
    let Some(before) = select(connection, sql, &[&change.command], read_progress)?.pop() else {
        return Ok(CommandOutcome::default());
    };
    let sql = "SELECT state, COUNT(*) AS machines FROM invocations WHERE command_id = ?1 GROUP BY state";
    let count = |row: &Row<'_>| Ok((parsed(row, "state")?, column::<u32>(row, "machines")? as usize));
    let counts = select(connection, sql, &[&change.command], count)?.into_iter().collect();
    let mut own = BTreeMap::new();
    for InvocationChange { after, expected_words, .. } in &change.invocations {
        if let Some(found) = found(connection, &change.command, after.instance, expected_words.is_some())? {
            own.insert(after.instance, found);
        }
    }
    let (taken, outcome) = change.judge(before, counts, &own);
    if let (Some(taken), Some(progress)) = (taken, outcome.progress) {
        write(connection, &change.command, progress, &taken)?;
    }
    Ok(outcome)
}

/// How far a command has come on a machine; and what its agent has told of it, if that is asked for.
fn found(
    connection: &Connection,
    command: &str,
    instance: InstanceId,
    has_words: bool,
) -> Outcome<Option<FoundInvocation>> {
    let key: [&dyn ToSql; 2] = [&command, &instance.to_string()];
    if has_words {
        let sql = "SELECT * FROM invocations WHERE command_id = ?1 AND instance_id = ?2";
        let Some(mut found) = select(connection, sql, &key, read_invocation)?.pop() else { return Ok(None) };
        found.steps = steps(connection, &found)?;
        return Ok(Some(FoundInvocation { basis: found.basis(), words: Some(found.words()) }));
    }
    let sql = "SELECT state, acknowledged_at FROM invocations WHERE command_id = ?1 AND instance_id = ?2";
    let found = select(connection, sql, &key, read_basis)?.pop();
    Ok(found.map(|basis| FoundInvocation { basis, words: None }))
}

fn write(connection: &Connection, id: &str, progress: CommandProgress, taken: &[&InvocationChange]) -> Outcome<()> {
    let sql = "UPDATE commands SET state = ?2, is_open = ?3, target_count = ?4, completed_count = ?5, \
        error_count = ?6, delivery_timed_out_count = ?7, content = CASE WHEN ?3 THEN content ELSE '' END \
        WHERE id = ?1 AND is_open = 1";
    let row = params![
        id,
        progress.state.as_str(),
        !progress.state.is_terminal(),
        progress.targets,
        progress.completed,
        progress.errors,
        progress.delivery_timed_out,
    ];
    execute(connection, sql, row)?;
    for InvocationChange { after, expected_words, .. } in taken {
        let instance = after.instance.to_string();
        let sql = "UPDATE invocations SET state = ?3, acknowledged_at = ?4 WHERE command_id = ?1 AND instance_id = ?2";
        execute(connection, sql, params![id, instance, after.state.as_str(), after.acknowledged_at.map(time)])?;
        if expected_words.is_none() {
            continue;
        }
        let sql = "UPDATE invocations SET trace = ?3 WHERE command_id = ?1 AND instance_id = ?2";
        execute(connection, sql, params![id, instance, after.trace])?;
        let sql = "DELETE FROM invocation_steps WHERE command_id = ?1 AND instance_id = ?2";
        execute(connection, sql, params![id, instance])?;
        put_steps(connection, after)?;
    }
    Ok(())
}

fn put_steps(connection: &Connection, invocation: &Invocation) -> Outcome<()> {
    let id = invocation.instance.to_string();
    for (place, step) in (0_u32..).zip(&invocation.steps) {
        let sql = "INSERT INTO invocation_steps (command_id, instance_id, place, name, status, code, started, \
            finished, output, standard_output, standard_error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let row = params![
            invocation.command,
            id,
            place,
            step.name,
            step.status,
            step.code,
            step.started,
            step.finished,
            step.output,
            step.standard_output,
            step.standard_error,
        ];
        execute(connection, sql, row)?;
    }
    Ok(())
}

/// See [`crate::Store::open_commands`].
pub(super) fn open(connection: &Connection) -> Outcome<Vec<SentCommand>> {
    let sql = "SELECT * FROM commands WHERE is_open = 1 ORDER BY requested_at, id";
    let found = select(connection, sql, &[], |row| Ok((read(row)?, column::<String>(row, "content")?)))?;
    found.into_iter().map(|(command, content)| with_invocations(connection, command, content, &[])).collect()
}

/// See [`crate::Store::sent_command`].
pub(super) fn sent(connection: &Connection, id: &str, instances: &[InstanceId]) -> Outcome<Option<SentCommand>> {
    let sql = "SELECT * FROM commands WHERE id = ?1";
    let found = select(connection, sql, &[&id], |row| Ok((read(row)?, column::<String>(row, "content")?)))?.pop();
    found.map(|(command, content)| with_invocations(connection, command, content, instances)).transpose()
}

/// A command with its invocations on these machines, or on all.
fn with_invocations(
    connection: &Connection,
    command: Command,
    content: String,
    instances: &[InstanceId],
) -> Outcome<SentCommand> {
    let mut invocations = Vec::new();
    let read = |row: &Row<'_>| read_invocation(row).map(Invocation::without_last_words);
    if instances.is_empty() {
        let sql = "SELECT * FROM invocations WHERE command_id = ?1 ORDER BY instance_id";
        invocations = select(connection, sql, &[&command.id], read)?;
    }
    for instance in instances.iter().collect::<BTreeSet<_>>() {
        let sql = "SELECT * FROM invocations WHERE command_id = ?1 AND instance_id = ?2";
        invocations.extend(select(connection, sql, &[&command.id, &instance.to_string()], read)?);
    }
    for invocation in invocations.iter_mut().filter(|invocation| !invocation.state.is_terminal()) {
        invocation.steps = steps(connection, invocation)?;
    }
    Ok(SentCommand { command, content, invocations })
}

/// See [`crate::Store::commands`].
pub(super) fn commands(connection: &Connection, query: &CommandQuery) -> Outcome<Vec<Command>> {
    let is_named = condition(query.command.is_some(), "id = ?1", "?1 IS NULL");
    let is_on = "id IN (SELECT command_id FROM invocations WHERE instance_id = ?2)";
    let is_on = condition(query.instance.is_some(), is_on, "?2 IS NULL");
    let is_behind = "(requested_at < ?3 OR (requested_at = ?3 AND id > ?4))";
    let is_behind = condition(query.after.is_some(), is_behind, "?3 IS NULL AND ?4 IS NULL");
    let is_own = condition(query.account.is_some(), "account = ?6", "?6 IS NULL");
    let sql = format!(
        "SELECT * FROM commands WHERE {is_named} AND {is_on} AND {is_behind} AND {is_own} \
         ORDER BY requested_at DESC, id LIMIT ?5"
    );
    let instance = query.instance.map(|id| id.to_string());
    let after = query.after.as_ref();
    let (at, command) = (after.map(|place| time(place.requested_at)), after.map(|place| &place.command));
    let account = query.account.map(|id| id.to_string());
    select(connection, &sql, &[&query.command, &instance, &at, &command, &query.limit, &account], read)
}

/// See [`crate::Store::invocations`].
pub(super) fn invocations(connection: &Connection, query: &CommandQuery) -> Outcome<Vec<Invocation>> {
    let is_named = condition(query.command.is_some(), "command_id = ?1", "?1 IS NULL");
    let is_on = condition(query.instance.is_some(), "instance_id = ?2", "?2 IS NULL");
    let is_behind = "(requested_at < ?3 OR (requested_at = ?3 AND (command_id, instance_id) > (?4, ?5)))";
    let is_behind = condition(query.after.is_some(), is_behind, "?3 IS NULL AND ?4 IS NULL AND ?5 IS NULL");
    let is_own = "command_id IN (SELECT id FROM commands WHERE account = ?7)";
    let is_own = condition(query.account.is_some(), is_own, "?7 IS NULL");
    let sql = format!(
        "SELECT * FROM invocations WHERE {is_named} AND {is_on} AND {is_behind} AND {is_own} \
         ORDER BY requested_at DESC, command_id, instance_id LIMIT ?6"
    );
    let instance = query.instance.map(|id| id.to_string());
    let after = query.after.as_ref();
    let (at, command) = (after.map(|place| time(place.requested_at)), after.map(|place| &place.command));
    let last = after.and_then(|place| place.instance).map(|id| id.to_string());
    let account = query.account.map(|id| id.to_string());
    let values: [&dyn ToSql; 7] = [&query.command, &instance, &at, &command, &last, &query.limit, &account];
    let mut found = select(connection, &sql, &values, read_invocation)?;
    for invocation in &mut found {
        invocation.steps = steps(connection, invocation)?;
    }
    Ok(found)
}

/// A condition that is there only if it is asked for, so that SQLite can go by an index. Every parameter is in both forms.
const fn condition(is_asked: bool, asked: &'static str, free: &'static str) -> &'static str {
    if is_asked { asked } else { free }
}

/// See [`crate::Store::forget_commands`].
pub(super) fn forget(connection: &Connection, retention: CommandRetention) -> Outcome<u64> {
    // A command is beyond what is kept if those that are not older have that many invocations already.
    let sql = "DELETE FROM commands WHERE id IN (SELECT id FROM (SELECT id, requested_at, \
        SUM(target_count) OVER (ORDER BY requested_at DESC, id) AS invocations FROM commands WHERE is_open = 0) \
        WHERE requested_at < ?1 OR invocations > ?2 ORDER BY requested_at, id DESC LIMIT ?3)";
    let row = params![time(retention.sent_before), retention.invocations_max, FORGOTTEN_MAX];
    execute(connection, sql, row).map(|rows| rows as u64)
}

fn execute(connection: &Connection, sql: &str, row: &[&dyn ToSql]) -> Outcome<usize> {
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Outcome<T>,
) -> Outcome<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query(values).map_err(fault::from_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Outcome<Command> {
    Ok(Command {
        id: column(row, "id")?,
        account: parsed(row, "account")?,
        requested_at: moment(row, "requested_at")?,
        document_name: column(row, "document_name")?,
        parameters: column(row, "parameters")?,
        targets: column(row, "targets")?,
        comment: column(row, "comment")?,
        delivery_seconds: column(row, "delivery_seconds")?,
        execution_seconds: column(row, "execution_seconds")?,
        concurrency_max: column(row, "concurrency_max")?,
        errors_max: column(row, "errors_max")?,
        progress: read_progress(row)?,
    })
}

fn read_progress(row: &Row<'_>) -> Outcome<CommandProgress> {
    Ok(CommandProgress {
        state: parsed(row, "state")?,
        targets: column(row, "target_count")?,
        completed: column(row, "completed_count")?,
        errors: column(row, "error_count")?,
        delivery_timed_out: column(row, "delivery_timed_out_count")?,
    })
}

fn read_basis(row: &Row<'_>) -> Outcome<InvocationBasis> {
    let acknowledged: Option<i64> = column(row, "acknowledged_at")?;
    Ok(InvocationBasis {
        state: parsed(row, "state")?,
        acknowledged_at: acknowledged.map(|_| moment(row, "acknowledged_at")).transpose()?,
    })
}

fn read_invocation(row: &Row<'_>) -> Outcome<Invocation> {
    let InvocationBasis { state, acknowledged_at } = read_basis(row)?;
    Ok(Invocation {
        command: column(row, "command_id")?,
        instance: parsed(row, "instance_id")?,
        instance_name: column(row, "instance_name")?,
        state,
        acknowledged_at,
        trace: column(row, "trace")?,
        steps: Vec::new(),
    })
}

fn steps(connection: &Connection, invocation: &Invocation) -> Outcome<Vec<CommandStep>> {
    let sql = "SELECT * FROM invocation_steps WHERE command_id = ?1 AND instance_id = ?2 ORDER BY place";
    select(connection, sql, &[&invocation.command, &invocation.instance.to_string()], |row| {
        Ok(CommandStep {
            name: column(row, "name")?,
            status: column(row, "status")?,
            code: column(row, "code")?,
            started: column(row, "started")?,
            finished: column(row, "finished")?,
            output: column(row, "output")?,
            standard_output: column(row, "standard_output")?,
            standard_error: column(row, "standard_error")?,
        })
    })
}
