//! Commands and what became of them as rows.

use std::collections::{BTreeMap, BTreeSet};

use inborn_identity::InstanceId;
use inborn_store::{
    Command, CommandChange, CommandOutcome, CommandProgress, CommandQuery, CommandRetention, CommandStep,
    FoundInvocation, Invocation, InvocationBasis, InvocationChange, InvocationCounts, SentCommand,
};

use crate::fault::{self, Outcome};
use crate::transaction::{Query, Session};
use crate::value::{Row, Value, values};

/// The most commands that one [`inborn_store::Store::forget_commands`] forgets, so that it does not hold up other writes
/// for long.
const FORGOTTEN_MAX: u32 = 200;

const COMMANDS: &str = "SELECT id, requested_at, document_name, content, parameters, targets, comment, \
    delivery_seconds, execution_seconds, concurrency_max, errors_max, state, target_count, completed_count, \
    error_count, delivery_timed_out_count, account FROM commands";

const INVOCATIONS: &str = "SELECT command_id, instance_id, requested_at, instance_name, state, acknowledged_at, trace \
    FROM invocations";

/// See [`inborn_store::Store::put_command`].
pub(crate) async fn put(session: &Session<'_>, sent: &SentCommand) -> Outcome<()> {
    let SentCommand { command, content, invocations } = sent;
    let progress = command.progress;
    let sql = "INSERT INTO commands (id, requested_at, document_name, content, parameters, targets, comment, \
        delivery_seconds, execution_seconds, concurrency_max, errors_max, state, is_open, target_count, \
        completed_count, error_count, delivery_timed_out_count, account) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    let row: &[Value] = values![
        &command.id,
        command.requested_at,
        &command.document_name,
        if progress.state.is_terminal() { "" } else { content.as_str() },
        &command.parameters,
        &command.targets,
        &command.comment,
        command.delivery_seconds,
        command.execution_seconds,
        &command.concurrency_max,
        &command.errors_max,
        progress.state.as_str(),
        !progress.state.is_terminal(),
        progress.targets,
        progress.completed,
        progress.errors,
        progress.delivery_timed_out,
        command.account.to_string(),
    ];
    session.put(sql, row, "a command").await?;
    let sql = "INSERT INTO invocations (command_id, instance_id, requested_at, instance_name, state, acknowledged_at, \
        trace) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let rows = invocations.iter().map(|invocation| {
        let row: &[Value] = values![
            &invocation.command,
            invocation.instance.to_string(),
            command.requested_at,
            &invocation.instance_name,
            invocation.state.as_str(),
            invocation.acknowledged_at,
            &invocation.trace,
        ];
        row.to_vec()
    });
    let rows: Vec<_> = rows.collect();
    session.run_all(sql, &rows, |error| fault::from_insertion(error, "an invocation")).await?;
    put_steps(session, invocations).await
}

/// See [`inborn_store::Store::change_commands`]. Who changes a command writes its row: of two who do so at the same time the
/// second begins again, with what the first has made of it.
pub(crate) async fn change(session: &Session<'_>, changes: &Vec<CommandChange>) -> Outcome<Vec<CommandOutcome>> {
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        outcomes.push(change_one(session, change).await?);
    }
    Ok(outcomes)
}

async fn change_one(session: &Session<'_>, change: &CommandChange) -> Outcome<CommandOutcome> {
    let sql = "SELECT state, target_count, completed_count, error_count, delivery_timed_out_count FROM commands \
        WHERE id = $1";
    let Some(row) = session.row(sql, values![&change.command]).await? else {
        return Ok(CommandOutcome::default());
    };
    let before = read_progress(&row)?;
    let sql = "SELECT state, COUNT(*) AS machines FROM invocations WHERE command_id = $1 GROUP BY state";
    let counts = session.rows(sql, values![&change.command]).await?;
    let counts = counts.iter().map(|row| Ok((row.parsed("state")?, row.number("machines")?)));
    let counts: InvocationCounts = counts.collect::<Outcome<_>>()?;
    let own = found(session, change).await?;
    let (taken, outcome) = change.judge(before, counts, &own);
    if let (Some(taken), Some(progress)) = (taken, outcome.progress) {
        write(session, &change.command, progress, &taken).await?;
    }
    Ok(outcome)
}

/// How far a command has come on the machines that a change speaks of, and what their agents have told where it changes that.
async fn found(session: &Session<'_>, change: &CommandChange) -> Outcome<BTreeMap<InstanceId, FoundInvocation>> {
    let (told, untold): (Vec<_>, Vec<_>) =
        change.invocations.iter().partition(|change| change.expected_words.is_some());
    let ids = |changes: &[&InvocationChange]| Value::all(changes.iter().map(|change| change.after.instance));
    let mut own = BTreeMap::new();
    if !untold.is_empty() {
        let sql = "SELECT instance_id, state, acknowledged_at FROM invocations \
            WHERE command_id = $1 AND instance_id = ANY($2)";
        for row in session.rows(sql, &[Value::from(&change.command), ids(&untold)]).await? {
            let found = FoundInvocation { basis: read_basis(&row)?, words: None };
            own.insert(row.parsed("instance_id")?, found);
        }
    }
    if !told.is_empty() {
        let sql = format!("{INVOCATIONS} WHERE command_id = $1 AND instance_id = ANY($2)");
        let query = Query::new(&sql, &[Value::from(&change.command), ids(&told)]);
        for found in select_invocations(session, &query, Words::OfAll).await? {
            own.insert(found.instance, FoundInvocation { basis: found.basis(), words: Some(found.words()) });
        }
    }
    Ok(own)
}

async fn write(session: &Session<'_>, id: &str, to: CommandProgress, taken: &[&InvocationChange]) -> Outcome<()> {
    let sql = "UPDATE commands SET state = $2, is_open = $3, target_count = $4, completed_count = $5, \
        error_count = $6, delivery_timed_out_count = $7, content = CASE WHEN $3 THEN content ELSE '' END \
        WHERE id = $1 AND is_open";
    let row = values![
        id,
        to.state.as_str(),
        !to.state.is_terminal(),
        to.targets,
        to.completed,
        to.errors,
        to.delivery_timed_out,
    ];
    session.run(sql, row).await?;
    for InvocationChange { after, expected_words, .. } in taken {
        let instance = after.instance.to_string();
        let sql = "UPDATE invocations SET state = $3, acknowledged_at = $4 WHERE command_id = $1 AND instance_id = $2";
        session.run(sql, values![id, &instance, after.state.as_str(), after.acknowledged_at]).await?;
        if expected_words.is_none() {
            continue;
        }
        let sql = "UPDATE invocations SET trace = $3 WHERE command_id = $1 AND instance_id = $2";
        session.run(sql, values![id, &instance, &after.trace]).await?;
        let sql = "DELETE FROM invocation_steps WHERE command_id = $1 AND instance_id = $2";
        session.run(sql, values![id, instance]).await?;
        put_steps(session, core::slice::from_ref(after)).await?;
    }
    Ok(())
}

async fn put_steps(session: &Session<'_>, invocations: &[Invocation]) -> Outcome<()> {
    let sql = "INSERT INTO invocation_steps (command_id, instance_id, place, name, status, code, started, \
        finished, output, standard_output, standard_error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let mut rows = Vec::new();
    for invocation in invocations {
        for (place, step) in (0_u32..).zip(&invocation.steps) {
            let row: &[Value] = values![
                &invocation.command,
                invocation.instance.to_string(),
                place,
                &step.name,
                &step.status,
                step.code,
                &step.started,
                &step.finished,
                &step.output,
                &step.standard_output,
                &step.standard_error,
            ];
            rows.push(row.to_vec());
        }
    }
    session.run_all(sql, &rows, fault::from_statement).await
}

/// See [`inborn_store::Store::open_commands`].
pub(crate) async fn open(session: &Session<'_>) -> Outcome<Vec<SentCommand>> {
    let sql = format!("{COMMANDS} WHERE is_open ORDER BY requested_at, id");
    let mut open = Vec::new();
    for row in session.rows(&sql, &[]).await? {
        open.push(SentCommand { command: read(&row)?, content: row.text("content")?, invocations: Vec::new() });
    }
    let ids = Value::all(open.iter().map(|sent: &SentCommand| &sent.command.id));
    let query = Query::new(&format!("{INVOCATIONS} WHERE command_id = ANY($1) ORDER BY instance_id"), &[ids]);
    let mut of: BTreeMap<String, Vec<Invocation>> = BTreeMap::new();
    for invocation in select_invocations(session, &query, Words::OfOpen).await? {
        of.entry(invocation.command.clone()).or_default().push(invocation);
    }
    for sent in &mut open {
        sent.invocations = of.remove(&sent.command.id).unwrap_or_default();
    }
    Ok(open)
}

/// See [`inborn_store::Store::sent_command`].
pub(crate) async fn sent(
    session: &Session<'_>,
    (id, instances): &(String, Vec<InstanceId>),
) -> Outcome<Option<SentCommand>> {
    let Some(row) = session.row(&format!("{COMMANDS} WHERE id = $1"), values![id]).await? else { return Ok(None) };
    let mut query = Query::new(&format!("{INVOCATIONS} WHERE command_id = $1"), values![id]);
    if !instances.is_empty() {
        let instances = query.value(Value::all(instances));
        query.push(&format!(" AND instance_id = ANY({instances})"));
    }
    query.push(" ORDER BY instance_id");
    let invocations = select_invocations(session, &query, Words::OfOpen).await?;
    Ok(Some(SentCommand { command: read(&row)?, content: row.text("content")?, invocations }))
}

/// See [`inborn_store::Store::commands`].
pub(crate) async fn commands(session: &Session<'_>, asked: &CommandQuery) -> Outcome<Vec<Command>> {
    let mut query = Query::new(&format!("{COMMANDS} WHERE TRUE"), &[]);
    if let Some(account) = asked.account {
        let account = query.value(account.to_string());
        query.push(&format!(" AND account = {account}"));
    }
    if let Some(command) = &asked.command {
        let command = query.value(command);
        query.push(&format!(" AND id = {command}"));
    }
    if let Some(instance) = asked.instance {
        let instance = query.value(instance.to_string());
        query.push(&format!(" AND id IN (SELECT command_id FROM invocations WHERE instance_id = {instance})"));
    }
    if let Some(place) = &asked.after {
        let (at, id) = (query.value(place.requested_at), query.value(&place.command));
        query.push(&format!(" AND (requested_at < {at} OR (requested_at = {at} AND id > {id}))"));
    }
    let limit = query.value(asked.limit);
    query.push(&format!(" ORDER BY requested_at DESC, id LIMIT {limit}"));
    query.rows(session).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::invocations`].
pub(crate) async fn invocations(session: &Session<'_>, asked: &CommandQuery) -> Outcome<Vec<Invocation>> {
    let mut query = Query::new(&format!("{INVOCATIONS} WHERE TRUE"), &[]);
    if let Some(account) = asked.account {
        let account = query.value(account.to_string());
        query.push(&format!(" AND command_id IN (SELECT id FROM commands WHERE account = {account})"));
    }
    if let Some(command) = &asked.command {
        let command = query.value(command);
        query.push(&format!(" AND command_id = {command}"));
    }
    if let Some(instance) = asked.instance {
        let instance = query.value(instance.to_string());
        query.push(&format!(" AND instance_id = {instance}"));
    }
    if let Some(place) = &asked.after {
        let (at, command) = (query.value(place.requested_at), query.value(&place.command));
        // A place without a machine is behind all of its command: nothing compares with what is absent.
        let last = query.value(place.instance.map(|id| id.to_string()));
        query.push(&format!(
            " AND (requested_at < {at} OR (requested_at = {at} AND (command_id, instance_id) > ({command}, {last})))"
        ));
    }
    let limit = query.value(asked.limit);
    query.push(&format!(" ORDER BY requested_at DESC, command_id, instance_id LIMIT {limit}"));
    select_invocations(session, &query, Words::OfAll).await
}

/// See [`inborn_store::Store::forget_commands`].
pub(crate) async fn forget(session: &Session<'_>, retention: &CommandRetention) -> Outcome<u64> {
    // A command is beyond what is kept if those that are not older have that many invocations already.
    let sql = "DELETE FROM commands WHERE id IN (SELECT id FROM (SELECT id, requested_at, \
        CAST(SUM(target_count) OVER (ORDER BY requested_at DESC, id) AS BIGINT) AS so_far FROM commands \
        WHERE NOT is_open) AS ranked WHERE requested_at < $1 OR so_far > $2 ORDER BY requested_at, id DESC LIMIT $3)";
    session.run(sql, values![retention.sent_before, retention.invocations_max, FORGOTTEN_MAX]).await
}

fn read(row: &Row) -> Outcome<Command> {
    Ok(Command {
        id: row.text("id")?,
        account: row.parsed("account")?,
        requested_at: row.moment("requested_at")?,
        document_name: row.text("document_name")?,
        parameters: row.text("parameters")?,
        targets: row.text("targets")?,
        comment: row.text("comment")?,
        delivery_seconds: row.number("delivery_seconds")?,
        execution_seconds: row.number("execution_seconds")?,
        concurrency_max: row.text("concurrency_max")?,
        errors_max: row.text("errors_max")?,
        progress: read_progress(row)?,
    })
}

fn read_progress(row: &Row) -> Outcome<CommandProgress> {
    Ok(CommandProgress {
        state: row.parsed("state")?,
        targets: row.number("target_count")?,
        completed: row.number("completed_count")?,
        errors: row.number("error_count")?,
        delivery_timed_out: row.number("delivery_timed_out_count")?,
    })
}

fn read_basis(row: &Row) -> Outcome<InvocationBasis> {
    Ok(InvocationBasis { state: row.parsed("state")?, acknowledged_at: row.moment_if_any("acknowledged_at")? })
}

/// Of which invocations it is asked what their agents have told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    OfAll,
    /// Of those of which something may still become.
    OfOpen,
}

/// Invocations with their steps: two statements, however many there are.
async fn select_invocations(session: &Session<'_>, query: &Query, words: Words) -> Outcome<Vec<Invocation>> {
    let mut found = Vec::new();
    for row in query.rows(session).await? {
        let InvocationBasis { state, acknowledged_at } = read_basis(&row)?;
        let invocation = Invocation {
            command: row.text("command_id")?,
            instance: row.parsed("instance_id")?,
            instance_name: row.text("instance_name")?,
            state,
            acknowledged_at,
            trace: row.text("trace")?,
            steps: Vec::new(),
        };
        found.push(if words == Words::OfAll { invocation } else { invocation.without_last_words() });
    }
    let is_asked = |invocation: &&Invocation| words == Words::OfAll || !invocation.state.is_terminal();
    let commands: BTreeSet<&String> = found.iter().filter(is_asked).map(|invocation| &invocation.command).collect();
    if commands.is_empty() {
        return Ok(found);
    }
    let commands = Value::all(commands);
    let instances = Value::all(found.iter().filter(is_asked).map(|invocation| invocation.instance));
    let sql = "SELECT command_id, instance_id, name, status, code, started, finished, output, standard_output, \
        standard_error FROM invocation_steps WHERE command_id = ANY($1) AND instance_id = ANY($2) \
        ORDER BY command_id, instance_id, place";
    let mut steps: BTreeMap<(String, InstanceId), Vec<CommandStep>> = BTreeMap::new();
    for row in session.rows(sql, &[commands, instances]).await? {
        let of = steps.entry((row.text("command_id")?, row.parsed("instance_id")?)).or_default();
        of.push(CommandStep {
            name: row.text("name")?,
            status: row.text("status")?,
            code: row.number("code")?,
            started: row.text("started")?,
            finished: row.text("finished")?,
            output: row.text("output")?,
            standard_output: row.text("standard_output")?,
            standard_error: row.text("standard_error")?,
        });
    }
    for invocation in found.iter_mut().filter(|invocation| is_asked(&&**invocation)) {
        invocation.steps = steps.remove(&(invocation.command.clone(), invocation.instance)).unwrap_or_default();
    }
    Ok(found)
}
