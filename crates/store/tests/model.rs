//! Random actions on the SQLite store and on a model of it (maps, and the rules written down once more): every answer
//! and everything that can be read must be equal, also after the store was closed and opened again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::collections::BTreeMap;
use std::io::Cursor;

use inborn_identity::{AccountId, HostId, InstanceId, MacAddress, UnixTime};
use inborn_store::conformance::samples::{
    LAUNCHED_AT, account, agent_report, bare, command, command_change, detector, detector_part, document, ended, epoch,
    finding, host_id, host_join, host_keys, id, inventory_record, invocation, join_token, key_pair, launch,
    launch_with_token, operator, other_account, sent, session,
};
use inborn_store::dump::{DumpFile, dump, load};
use inborn_store::{
    AgentReport, Attachment, Change, ChangeRequest, CommandChange, CommandOutcome, CommandPlace, CommandProgress,
    CommandQuery, CommandRetention, CommandState, Conflict, CutOff, CutOffScope, Detector, DetectorChange,
    DetectorPart, Document, EpochState, Finding, FindingPlace, FindingQuery, FindingRetention, Host, HostChange,
    HostKeys, HostKeysChange, HostState, Instance, InstanceQuery, InstanceState, InventoryChange, InventoryKind,
    InventoryQuery, InventoryRecord, InvocationChange, InvocationCounts, InvocationState, JoinToken, KeyPair,
    LaunchOutcome, LaunchRequest, Operator, OwnMac, PartChange, PartKind, RecordedCutOff, SealedEpoch, SentCommand,
    Session, SessionPlace, SessionQuery, SessionRetention, SettingChange, SqliteLoading, SqliteSnapshot, SqliteStore,
    Store, StoreError, TagRemoval, UserData,
};
use proptest::prelude::*;

#[path = "model/action.rs"]
mod action;

use action::*;

/// What the store should hold.
#[derive(Clone, Default)]
struct Model {
    instances: BTreeMap<InstanceId, Instance>,
    hosts: BTreeMap<HostId, Host>,
    join_tokens: BTreeMap<[u8; 32], JoinToken>,
    launches: BTreeMap<(AccountId, String), ([u8; 32], String)>,
    operators: BTreeMap<String, Operator>,
    epochs: BTreeMap<u32, SealedEpoch>,
    key_pairs: BTreeMap<String, KeyPair>,
    /// By kind and subject, as text.
    cut_offs: BTreeMap<String, RecordedCutOff>,
    host_keys: BTreeMap<InstanceId, (u64, HostKeys)>,
    settings: BTreeMap<String, Vec<u8>>,
    documents: BTreeMap<String, Document>,
    commands: BTreeMap<String, SentCommand>,
    inventory: BTreeMap<(InstanceId, InventoryKind, String), InventoryRecord>,
    sessions: BTreeMap<String, Session>,
    detectors: BTreeMap<String, Detector>,
    parts: BTreeMap<(String, String, String), DetectorPart>,
    findings: BTreeMap<String, Finding>,
    agent_reports: BTreeMap<InstanceId, AgentReport>,
}

type Answer<T> = Result<T, StoreError>;

impl Model {
    fn taken(&self, instance: &Instance) -> bool {
        let place = |of: &Instance| (of.host, of.attachment.clone());
        let holder = |other: &&Instance| other.id != instance.id && place(other) == place(instance);
        instance.attachment.is_some() && self.instances.values().any(|other| holder(&other))
    }

    fn launch(&mut self, request: &LaunchRequest) -> Answer<LaunchOutcome> {
        let token = request.client_token.clone().map(|token| (request.account, token));
        if let Some((fingerprint, reservation)) = token.as_ref().and_then(|token| self.launches.get(token)) {
            if *fingerprint != request.fingerprint {
                return Ok(LaunchOutcome::Mismatch);
            }
            let mut found: Vec<_> =
                self.instances.values().filter(|found| found.reservation_id == *reservation).cloned().collect();
            found.sort_by_key(|instance| instance.ami_launch_index);
            return Ok(LaunchOutcome::Replayed(found));
        }
        let takes = |id: HostId| {
            self.hosts
                .get(&id)
                .is_some_and(|host| host.state == HostState::Active && host.accounts.contains(&request.account))
        };
        if let Some(host) = request.instances.iter().filter_map(|instance| instance.host).find(|id| !takes(*id)) {
            return Err(Conflict::HostRefused(host).into());
        }
        for instance in &request.instances {
            if self.instances.contains_key(&instance.id) {
                return Err(Conflict::Exists("an instance").into());
            }
            if self.taken(instance) {
                return Err(Conflict::AttachmentTaken.into());
            }
            self.instances.insert(instance.id, instance.clone());
        }
        if let Some(token) = token {
            self.launches.insert(token, (request.fingerprint, request.reservation_id.clone()));
        }
        Ok(LaunchOutcome::New(request.instances.clone()))
    }

    fn change(&mut self, request: &ChangeRequest) -> Answer<Vec<(Instance, Instance)>> {
        let mut ids = Vec::new();
        for id in &request.instances {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        let absent = |id: &InstanceId| self.instances.get(id).is_none_or(|found| found.account != request.account);
        let missing: Vec<_> = ids.iter().copied().filter(absent).collect();
        if !missing.is_empty() {
            return Err(StoreError::NotFound(missing));
        }
        let mut changes = Vec::new();
        for id in ids {
            let before = self.instances[&id].clone();
            let after = self.change_one(&before, &request.change)?;
            if self.taken(&after) {
                return Err(Conflict::AttachmentTaken.into());
            }
            self.instances.insert(id, after.clone());
            changes.push((before, after));
        }
        Ok(changes)
    }

    fn change_one(&mut self, before: &Instance, change: &Change) -> Answer<Instance> {
        let mut after = before.clone();
        let (running, ended) = (before.state == InstanceState::Running, before.state == InstanceState::Terminated);
        let refused = |change| Err(Conflict::WrongState { instance: before.id, state: before.state, change }.into());
        let mut reboot = None;
        match change {
            Change::Stop { .. } if ended => return refused("stop"),
            Change::Start { .. } if ended => return refused("start"),
            Change::Reboot { .. } if !running => return refused("reboot"),
            Change::UserData(_) if running || ended => return refused("a change of its user data"),
            Change::UserData(data) => after.user_data = data.clone(),
            Change::Attach(..) if ended => return refused("attach"),
            Change::Stop { at, cut_off, .. } if running => {
                after.state = InstanceState::Stopped;
                after.state_reason = None;
                reboot = Some((*at, *cut_off));
            }
            Change::Start { at, cut_off } if !running => {
                (after.state, after.launch_time, after.boot_time) = (InstanceState::Running, *at, *at);
                reboot = Some((*at, *cut_off));
            }
            Change::Reboot { at, cut_off } => {
                after.boot_time = *at;
                reboot = Some((*at, *cut_off));
            }
            Change::Terminate { at, .. } if !ended => {
                (after.state, after.terminated_at) = (InstanceState::Terminated, Some(*at));
                (after.attachment, after.mac) = (None, None);
                self.cut_off(RecordedCutOff { cut_off: CutOff::Dead { instance: before.id }, at: *at });
            }
            Change::Tags { set, remove } => {
                after.tags.retain(|key, value| {
                    !remove.iter().any(|tag| tag.key == *key && tag.value.as_ref().is_none_or(|wanted| wanted == value))
                });
                after.tags.append(&mut set.clone());
            }
            Change::Attach(attachment, mac) => (after.attachment, after.mac) = (Some(attachment.clone()), *mac),
            Change::Detach => (after.attachment, after.mac) = (None, None),
            _ => {}
        }
        if let Some((at, cut_off)) = reboot {
            after.boot_generation += 1;
            if cut_off {
                let cut_off = CutOff::OlderBoot { instance: before.id, below: after.boot_generation };
                self.cut_off(RecordedCutOff { cut_off, at });
            }
        }
        Ok(after)
    }

    fn cut_off(&mut self, new: RecordedCutOff) {
        let key = match new.cut_off {
            CutOff::Dead { instance } => format!("dead {instance}"),
            CutOff::OlderBoot { instance, .. } => format!("boot {instance}"),
            CutOff::IssuedBefore { scope, .. } => format!("before {scope:?}"),
        };
        let kept = self.cut_offs.entry(key).or_insert(new);
        // Within one kind and subject the order of the values is the order of their strength.
        kept.cut_off = kept.cut_off.max(new.cut_off);
        kept.at = kept.at.max(new.at);
    }

    fn purge(&mut self, before: UnixTime) -> u64 {
        let count = self.instances.len();
        self.instances.retain(|_, instance| instance.terminated_at.is_none_or(|at| at >= before));
        let instances = &self.instances;
        self.host_keys.retain(|id, _| instances.contains_key(id));
        self.agent_reports.retain(|id, _| instances.contains_key(id));
        self.inventory.retain(|(id, ..), _| instances.contains_key(id));
        self.launches.retain(|_, (_, reservation)| instances.values().any(|left| left.reservation_id == *reservation));
        (count - self.instances.len()) as u64
    }

    /// Commands in the order in which they are listed.
    fn listed(&self) -> Vec<&SentCommand> {
        let mut all: Vec<_> = self.commands.values().collect();
        all.sort_by_key(|sent| (std::cmp::Reverse(sent.command.requested_at), sent.command.id.clone()));
        all
    }

    /// Sessions in the order in which they are listed.
    fn listed_sessions(&self, has_ended: bool) -> Vec<Session> {
        let asked = self.sessions.values().filter(|session| session.end.is_some() == has_ended);
        let mut all: Vec<_> = asked.cloned().collect();
        all.sort_by_key(|session| (std::cmp::Reverse(session.started_at), session.id.clone()));
        all
    }

    /// The findings of a detector in the order in which they are listed.
    fn listed_findings(&self, detector: &str) -> Vec<Finding> {
        let mut all: Vec<_> = self.findings.values().filter(|finding| finding.detector == detector).cloned().collect();
        all.sort_by_key(|finding| (std::cmp::Reverse(finding.updated_at), finding.id.clone()));
        all
    }

    /// A change on one machine.
    fn progress(&mut self, change: &CommandChange) -> CommandOutcome {
        let Some(sent) = self.commands.get_mut(&change.command) else { return CommandOutcome::default() };
        let InvocationChange { expected, expected_words, after } = &change.invocations[0];
        let states = |sent: &SentCommand| sent.invocations.iter().map(|one| one.state).collect::<Vec<_>>();
        let is_out = |state: &&InvocationState| !state.is_terminal() && **state != InvocationState::Pending;
        let (out, errors) =
            (states(sent).iter().filter(is_out).count(), states(sent).iter().filter(|state| state.is_error()).count());
        let is_full = out >= change.concurrency_max as usize || errors > change.errors_max as usize;
        let before = sent.command.progress.state;
        let was_cancelled = before == CommandState::Cancelling;
        let own = sent.invocations.iter_mut().find(|own| own.instance == after.instance);
        let own = own.filter(|own| own.basis() == *expected && !own.state.is_terminal());
        let own = own.filter(|own| expected_words.as_ref().is_none_or(|words| own.words() == *words));
        let is_out_already = |state: InvocationState| is_out(&&state);
        let own = own.filter(|own| !change.claims || (!was_cancelled && (is_out_already(own.state) || !is_full)));
        let refused = if own.is_some() { vec![] } else { vec![after.instance] };
        let mut is_changed = false;
        if let Some(own) = own {
            let was = own.clone();
            (own.state, own.acknowledged_at) = (after.state, after.acknowledged_at);
            if expected_words.is_some() {
                (own.trace, own.steps) = (after.trace.clone(), after.steps.clone());
            }
            is_changed = *own != was;
        }
        let is_cancelled = was_cancelled || change.is_cancelled;
        let is_written = is_changed || (change.is_cancelled && !was_cancelled && !before.is_terminal());
        if !before.is_terminal() && is_written {
            let mut counts = InvocationCounts::new();
            states(sent).into_iter().for_each(|state| *counts.entry(state).or_default() += 1);
            sent.command.progress = CommandProgress::of(&counts, change.errors_max as usize, is_cancelled);
            if sent.command.progress.state.is_terminal() {
                sent.content.clear();
            }
        }
        CommandOutcome { progress: Some(sent.command.progress), refused, is_written }
    }

    fn forget_commands(&mut self, retention: CommandRetention) -> u64 {
        let mut invocations = 0;
        let mut gone = Vec::new();
        for sent in self.listed().into_iter().filter(|sent| sent.command.progress.state.is_terminal()) {
            invocations += sent.command.progress.targets;
            if sent.command.requested_at < retention.sent_before || invocations > retention.invocations_max {
                gone.push(sent.command.id.clone());
            }
        }
        gone.iter().for_each(|id| drop(self.commands.remove(id)));
        gone.len() as u64
    }

    fn put_inventory(&mut self, change: &InventoryChange) -> Answer<()> {
        if self.instances.get(&change.instance).is_none_or(|found| found.state == InstanceState::Terminated) {
            return Err(StoreError::NotFound(vec![change.instance]));
        }
        let key = |record: &InventoryRecord| (change.instance, record.kind, record.type_name.clone());
        for record in &change.records {
            self.inventory.insert(key(record), record.clone());
        }
        for record in &change.unchanged {
            match self.inventory.get_mut(&key(record)) {
                Some(found) if found.content_hash == record.content_hash => {
                    found.captured_at.clone_from(&record.captured_at);
                    found.received_at = record.received_at;
                }
                _ => return Err(Conflict::ContentAbsent(record.type_name.clone()).into()),
            }
        }
        Ok(())
    }

    fn page(&self, query: InstanceQuery) -> (Vec<Instance>, Option<InstanceId>) {
        let asked = |instance: &&Instance| {
            query.account.is_none_or(|whose| instance.account == whose)
                && query.after.is_none_or(|after| instance.id > after)
        };
        let all: Vec<_> = self.instances.values().filter(asked).cloned().collect();
        let page: Vec<_> = all.iter().take(query.limit as usize).cloned().collect();
        let next = if page.len() < all.len() { page.last().map(|last| last.id) } else { None };
        (page, next)
    }
}

/// Does one action to a copy of the model, which counts only if it succeeds: all or nothing.
fn attempt<T>(model: &mut Model, act: impl FnOnce(&mut Model) -> Answer<T>) -> Answer<T> {
    let mut next = model.clone();
    let answer = act(&mut next)?;
    *model = next;
    Ok(answer)
}

async fn step(store: &SqliteStore, model: &mut Model, action: Action) {
    match action {
        Action::Launch { numbers, other, token, fingerprint, port, host } => {
            let mut request = launch_request(&numbers, other, token, fingerprint);
            request.instances[0].attachment = port.map(|port| Attachment::LoopbackPort(port.into()));
            request.instances.iter_mut().for_each(|instance| instance.host = host.map(host_id));
            let expected = attempt(model, |model| model.launch(&request));
            assert_eq!(store.launch(request).await, expected);
        }
        Action::Change { numbers, other, change } => {
            let instances = numbers.into_iter().map(|number| id(number.into())).collect();
            let request = ChangeRequest { account: whose(other), instances, change };
            let expected = attempt(model, |model| model.change(&request));
            let changes = store.change(request).await;
            let pairs = |changed: Vec<inborn_store::Changed>| {
                changed.into_iter().map(|changed| (changed.before, changed.after)).collect()
            };
            assert_eq!(changes.map(pairs), expected);
        }
        Action::JoinToken { number, seconds } => {
            let token = join_token(number, seconds.into());
            let absent = !model.join_tokens.contains_key(&token.digest);
            assert_eq!(store.put_join_token(token.clone()).await.is_ok(), absent);
            model.join_tokens.entry(token.digest).or_insert(token);
        }
        Action::JoinHost { token, number, seconds } => {
            let join = host_join(token, number, seconds.into());
            let expected = match model.join_tokens.get(&join.digest).filter(|token| join.at < token.expires_at) {
                None => Err(Conflict::JoinTokenRefused.into()),
                Some(_) if model.hosts.contains_key(&join.id) => Err(Conflict::Exists("a host").into()),
                Some(token) => Ok(join.host(token)),
            };
            if let Ok(host) = &expected {
                model.join_tokens.remove(&join.digest);
                model.hosts.insert(host.id, host.clone());
            }
            assert_eq!(store.join_host(join).await, expected);
        }
        Action::ChangeHost { number, change } => {
            let id = host_id(number);
            if let Some(host) = model.hosts.get_mut(&id) {
                match change {
                    HostChange::Seen(at) => host.seen_at = host.seen_at.max(at),
                    HostChange::Drain if host.state == HostState::Evicted => {}
                    HostChange::Drain => host.state = HostState::Draining,
                    HostChange::Evict => host.state = HostState::Evicted,
                }
            }
            assert_eq!(store.change_host(id, change).await, Ok(model.hosts.get(&id).cloned()));
        }
        Action::ForgetJoinTokens(seconds) => {
            let count = model.join_tokens.len();
            model.join_tokens.retain(|_, token| token.expires_at >= at(seconds));
            let expected = (count - model.join_tokens.len()) as u64;
            assert_eq!(store.forget_join_tokens(at(seconds)).await, Ok(expected));
        }
        Action::Purge(seconds) => assert_eq!(store.purge(at(seconds)).await, Ok(model.purge(at(seconds)))),
        Action::Operator(number) => {
            let operator = operator(number);
            let absent = !model.operators.contains_key(operator.access_key_id.as_str());
            assert_eq!(store.put_operator(operator.clone()).await.is_ok(), absent);
            model.operators.insert(operator.access_key_id.to_string(), operator);
        }
        Action::Epoch(number) => {
            let epoch = epoch(number.into(), EpochState::Published);
            let absent = !model.epochs.contains_key(&epoch.id);
            assert_eq!(store.put_epoch(epoch.clone()).await.is_ok(), absent);
            model.epochs.insert(epoch.id, epoch);
        }
        Action::KeyPair(number) => {
            let pair = key_pair(number);
            let absent = !model.key_pairs.contains_key(&pair.name);
            assert_eq!(store.put_key_pair(pair.clone()).await.is_ok(), absent);
            model.key_pairs.insert(pair.name.clone(), pair);
        }
        Action::ForgetKeyPair { number, other } => {
            let name = key_pair(number).name;
            let was_there = !other && model.key_pairs.remove(&name).is_some();
            assert_eq!(store.remove_key_pair(whose(other), name).await, Ok(was_there));
        }
        Action::CutOff(cut_off) => {
            model.cut_off(cut_off);
            assert_eq!(store.put_cut_off(cut_off).await, Ok(()));
        }
        Action::Forget(seconds) => {
            let count = model.cut_offs.len();
            model.cut_offs.retain(|_, cut_off| cut_off.at >= at(seconds));
            let expected = (count - model.cut_offs.len()) as u64;
            assert_eq!(store.forget_cut_offs(at(seconds)).await, Ok(expected));
        }
        Action::Setting { name, expected, value } => {
            let (name, expected, value) = (format!("setting-{name}"), expected.map(|byte| vec![byte]), vec![value]);
            let change = SettingChange { name: name.clone(), expected, value };
            let wins = model.settings.get(&name) == change.expected.as_ref();
            assert_eq!(store.put_setting(change.clone()).await.is_ok(), wins);
            if wins {
                model.settings.insert(name, change.value);
            }
        }
        Action::HostKeys { number, revision, keys } => {
            let change =
                HostKeysChange { instance: id(number.into()), revision: revision.into(), keys: host_keys(keys) };
            let found = model.host_keys.get(&change.instance).map_or(0, |(revision, _)| *revision);
            let wins = found == change.revision && model.instances.contains_key(&change.instance);
            assert_eq!(store.put_host_keys(change.clone()).await.is_ok(), wins);
            if wins {
                model.host_keys.insert(change.instance, (found + 1, change.keys));
            }
        }
        Action::Document { number, is_there: true } => {
            let document = document(&format!("document-{number}"), number.into());
            let absent = !model.documents.contains_key(&document.name);
            assert_eq!(store.put_document(document.clone()).await.is_ok(), absent);
            model.documents.insert(document.name.clone(), document);
        }
        Action::Document { number, is_there: false } => {
            let name = format!("document-{number}");
            let was_there = model.documents.remove(&name).is_some();
            assert_eq!(store.delete_document(account(), name).await, Ok(was_there));
        }
        Action::Send { number, seconds, machines } => {
            let machines: Vec<u32> = machines.into_iter().map(u32::from).collect();
            let sent = sent(number.into(), seconds.into(), &machines);
            let absent = !model.commands.contains_key(&sent.command.id);
            assert_eq!(store.put_command(sent.clone()).await.is_ok(), absent);
            model.commands.entry(sent.command.id.clone()).or_insert(sent);
        }
        Action::Progress { number, machine, state, overall } => {
            let after = invocation(number.into(), machine.into(), state, (machine % 3).into());
            let pending = invocation(number.into(), machine.into(), InvocationState::Pending, 0);
            let sent = model.commands.get(&after.command);
            let known = sent.and_then(|sent| sent.invocations.iter().find(|one| one.instance == after.instance));
            // Some who have not heard of anything yet, some who have.
            let before = known.filter(|_| overall != CommandState::Pending).unwrap_or(&pending);
            let change = CommandChange {
                is_cancelled: overall == CommandState::Cancelling,
                claims: overall == CommandState::InProgress,
                concurrency_max: 2,
                errors_max: 1,
                ..command_change(number.into(), vec![(before.clone(), after)])
            };
            let outcome = model.progress(&change);
            assert_eq!(store.change_commands(vec![change]).await, Ok(vec![outcome]));
        }
        Action::ForgetCommands { seconds, invocations_max } => {
            let retention = CommandRetention { sent_before: at(seconds), invocations_max: invocations_max.into() };
            assert_eq!(store.forget_commands(retention).await, Ok(model.forget_commands(retention)));
        }
        Action::Commands { machine, after, limit } => {
            let instance = machine.map(|number| id(number.into()));
            let after = after.map(|(seconds, number)| CommandPlace {
                requested_at: at(seconds),
                command: command(number.into(), 0).id,
                instance: None,
            });
            let query = CommandQuery { account: None, command: None, instance, after, limit: limit.into() };
            let is_asked = |sent: &&&SentCommand| {
                let is_on = |instance| sent.invocations.iter().any(|invocation| invocation.instance == instance);
                instance.is_none_or(is_on)
                    && query.after.as_ref().is_none_or(|place| {
                        let (at, id) = (sent.command.requested_at, &sent.command.id);
                        at < place.requested_at || (at == place.requested_at && *id > place.command)
                    })
            };
            let listed = model.listed();
            let expected = listed.iter().filter(is_asked).map(|sent| sent.command.clone()).take(limit.into());
            assert_eq!(store.commands(query.clone()).await, Ok(expected.collect()));
        }
        Action::Inventory { number, kind, types, version, is_new } => {
            let records: Vec<_> = (0..=types).map(|one| inventory_record(kind, one, version)).collect();
            let (records, unchanged) = if is_new { (records, Vec::new()) } else { (Vec::new(), records) };
            let change = InventoryChange { instance: id(number.into()), records, unchanged };
            let expected = attempt(model, |model| model.put_inventory(&change));
            assert_eq!(store.put_inventory(change).await, expected);
        }
        Action::ForgetInventory(seconds) => {
            let count = model.inventory.len();
            model.inventory.retain(|_, record| record.received_at >= at(seconds));
            let expected = (count - model.inventory.len()) as u64;
            assert_eq!(store.forget_inventory(at(seconds)).await, Ok(expected));
        }
        Action::Session { number, seconds } => {
            let session = session(number.into(), seconds.into());
            let absent = !model.sessions.contains_key(&session.id);
            assert_eq!(store.put_session(session.clone()).await.is_ok(), absent);
            model.sessions.entry(session.id.clone()).or_insert(session);
        }
        Action::EndSession { number, seconds } => {
            let (id, end) = (session(number.into(), 0).id, ended(seconds.into()));
            let open = model.sessions.get_mut(&id).filter(|session| session.end.is_none());
            assert_eq!(store.end_session(id, end.clone(), None).await, Ok(open.is_some()));
            if let Some(open) = open {
                open.end = Some(end);
            }
        }
        Action::ForgetSessions { seconds, sessions_max } => {
            let retention = SessionRetention { started_since: at(seconds), sessions_max: sessions_max.into() };
            let ended = model.listed_sessions(true).into_iter().enumerate();
            let gone: Vec<String> = ended
                .filter(|(place, session)| session.started_at < at(seconds) || *place >= sessions_max.into())
                .map(|(_, session)| session.id)
                .collect();
            gone.iter().for_each(|id| drop(model.sessions.remove(id)));
            assert_eq!(store.forget_sessions(retention).await, Ok(gone.len() as u64));
        }
        Action::Sessions { has_ended, after, limit } => {
            let after = after
                .map(|(seconds, number)| SessionPlace { started_at: at(seconds), id: session(number.into(), 0).id });
            let behind = |session: &Session| {
                after.as_ref().is_none_or(|place| {
                    let (at, id) = (session.started_at, &session.id);
                    at < place.started_at || (at == place.started_at && *id > place.id)
                })
            };
            let listed = model.listed_sessions(has_ended).into_iter();
            let expected = listed.filter(behind).take(limit.into()).collect();
            let query = SessionQuery { account: None, has_ended, after: after.clone(), limit: limit.into() };
            assert_eq!(store.sessions(query).await, Ok(expected));
        }
        Action::Page { whose: other, after, limit } => {
            let after = after.map(|number| id(number.into()));
            let query = InstanceQuery { account: other.map(whose), after, limit: limit.into() };
            let page = store.instances(query).await.unwrap();
            assert_eq!((page.instances, page.next), model.page(query));
        }
        Action::Detector { number, other, version, is_known } => {
            let document = format!(r#"{{"version":{version}}}"#);
            let detector = Detector { document, ..detector(number, whose(other)) };
            let known = model.detectors.get(&detector.id).map(|found| found.document.clone());
            let expected = if is_known { known.clone() } else { Some("another".to_owned()) };
            let is_other = |found: &Detector| (found.account == detector.account) != (found.id == detector.id);
            let is_good = is_known && !model.detectors.values().any(is_other);
            let change = DetectorChange { expected, detector: detector.clone(), part: None };
            assert_eq!(store.put_detector(change).await.is_ok(), is_good);
            if is_good {
                model.detectors.insert(detector.id.clone(), detector);
            }
        }
        Action::DeleteDetector(number) => {
            let id = detector(number, account()).id;
            let whose = model.detectors.remove(&id).map(|found| found.account);
            model.parts.retain(|(detector, ..), _| *detector != id);
            model.findings.retain(|_, finding| finding.detector != id);
            let deleted = store.delete_detector(whose.unwrap_or_else(account), id).await;
            assert_eq!(deleted, Ok(whose.is_some()));
        }
        Action::Part { detector: which, kind, number, version, is_known } => {
            let part = detector_part(which, kind, number, version.unwrap_or_default());
            let key = (part.detector.clone(), kind.to_string(), part.id.clone());
            let known = model.detectors.get(&part.detector).cloned();
            let is_good = known.is_some() && is_known;
            let known = known.unwrap_or_else(|| detector(which, account()));
            let expected = Some(if is_known { known.document.clone() } else { "another".to_owned() });
            let document = version.map(|_| part.document.clone());
            let changed = Some(PartChange { kind, id: part.id.clone(), document });
            let change = DetectorChange { expected, detector: known, part: changed };
            assert_eq!(store.put_detector(change).await.is_ok(), is_good);
            match version {
                _ if !is_good => {}
                Some(_) => _ = model.parts.insert(key, part),
                None => _ = model.parts.remove(&key),
            }
        }
        Action::Findings { detector: number, all } => {
            let all: Vec<_> = all.into_iter().map(|(which, seconds)| finding(number, which, seconds)).collect();
            let is_good = all.is_empty() || model.detectors.contains_key(&detector(number, account()).id);
            assert_eq!(store.put_findings(all.clone()).await.is_ok(), is_good);
            if is_good {
                model.findings.extend(all.into_iter().map(|finding| (finding.id.clone(), finding)));
            }
        }
        Action::ForgetFindings { seconds, findings_max } => {
            let retention = FindingRetention { updated_since: at(seconds), findings_max: findings_max.into() };
            let mut gone = Vec::new();
            for detector in model.detectors.keys() {
                let mut listed = model.listed_findings(detector);
                // First the latest of each machine and type, then the second of each.
                let mut seen = BTreeMap::new();
                listed.sort_by_cached_key(|finding| {
                    let round = seen.entry((finding.instance, finding.kind.clone())).or_insert(0);
                    *round += 1;
                    *round
                });
                let listed = listed.into_iter().enumerate();
                let old =
                    listed.filter(|(place, finding)| finding.updated_at < at(seconds) || *place >= findings_max.into());
                gone.extend(old.map(|(_, finding)| finding.id));
            }
            gone.iter().for_each(|id| drop(model.findings.remove(id)));
            assert_eq!(store.forget_findings(retention).await, Ok(gone.len() as u64));
        }
        Action::FindingPage { detector: number, key, after, limit } => {
            let after =
                after.map(|(seconds, number)| FindingPlace { updated_at: at(seconds), id: finding(0, number, 0).id });
            let key = key.map(|key| format!("key-{key}"));
            let is_asked = |finding: &Finding| {
                key.as_ref().is_none_or(|key| finding.key == *key)
                    && after.as_ref().is_none_or(|place| {
                        let (at, id) = (finding.updated_at, &finding.id);
                        at < place.updated_at || (at == place.updated_at && *id > place.id)
                    })
            };
            let id = detector(number, account()).id;
            let listed = model.listed_findings(&id).into_iter();
            let expected = listed.filter(is_asked).take(limit.into()).collect();
            let query = FindingQuery { detector: id, key: key.clone(), after: after.clone(), limit: limit.into() };
            assert_eq!(store.findings(query).await, Ok(expected));
        }
        Action::AgentReport { number, seconds } => {
            let report = agent_report(number, seconds);
            assert_eq!(store.put_agent_reports(vec![report.clone()]).await, Ok(()));
            if model.instances.contains_key(&report.instance) {
                model.agent_reports.insert(report.instance, report);
            }
        }
        Action::Reopen => {}
    }
}

/// Everything that can be read is as the model has it.
async fn compare(store: &SqliteStore, model: &Model) {
    let query = InstanceQuery { account: None, after: None, limit: 1000 };
    assert_eq!(store.instances(query).await.unwrap().instances, model.page(query).0);
    assert_eq!(store.hosts().await, Ok(model.hosts.values().cloned().collect()));
    assert_eq!(store.operators().await, Ok(model.operators.values().cloned().collect()));
    assert_eq!(store.key_pairs(account()).await, Ok(model.key_pairs.values().cloned().collect()));
    assert_eq!(store.epochs().await, Ok(model.epochs.values().cloned().collect()));
    let mut expected: Vec<_> = model.cut_offs.values().copied().collect();
    let mut found = store.cut_offs().await.unwrap();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    for instance in (0..10).map(id) {
        let expected = model.host_keys.get(&instance).cloned().unwrap_or_default();
        assert_eq!(store.host_keys(instance).await, Ok(expected));
    }
    assert_eq!(store.documents().await, Ok(model.documents.values().cloned().collect()));
    let mut open: Vec<_> =
        model.commands.values().filter(|sent| !sent.command.progress.state.is_terminal()).cloned().collect();
    open.sort_by_key(|sent| (sent.command.requested_at, sent.command.id.clone()));
    for invocation in open.iter_mut().flat_map(|sent| &mut sent.invocations) {
        *invocation = invocation.clone().without_last_words();
    }
    assert_eq!(store.open_commands().await, Ok(open));
    let query = CommandQuery { limit: CommandQuery::LIMIT_MAX, ..CommandQuery::default() };
    let invocations = model.listed().into_iter().flat_map(|sent| sent.invocations.clone()).collect();
    assert_eq!(store.invocations(query).await, Ok(invocations));
    for (instance, kind) in (0..10).flat_map(|n| [(id(n), InventoryKind::Item), (id(n), InventoryKind::Compliance)]) {
        let of_it = model.inventory.iter().filter(|((of, which, _), _)| (*of, *which) == (instance, kind));
        let expected = of_it.map(|(_, record)| record.clone()).collect();
        let query = InventoryQuery { instance, kind, type_name: None, with_content: true };
        assert_eq!(store.inventory(query).await, Ok(expected));
    }
    for has_ended in [false, true] {
        let query = SessionQuery { account: None, has_ended, after: None, limit: SessionQuery::LIMIT_MAX };
        assert_eq!(store.sessions(query).await, Ok(model.listed_sessions(has_ended)));
    }
    assert_eq!(store.detectors().await, Ok(model.detectors.values().cloned().collect()));
    assert_eq!(store.detector_parts().await, Ok(model.parts.values().cloned().collect()));
    for detector in model.detectors.values() {
        let parts = model.parts.values().filter(|part| part.detector == detector.id).cloned().collect();
        assert_eq!(store.detector_of(detector.account).await, Ok(Some((detector.clone(), parts))));
    }
    assert_eq!(store.agent_reports().await, Ok(model.agent_reports.values().cloned().collect()));
    for detector in model.detectors.keys() {
        let limit = FindingQuery::LIMIT_MAX;
        let query = FindingQuery { detector: detector.clone(), key: None, after: None, limit };
        assert_eq!(store.findings(query).await, Ok(model.listed_findings(detector)));
    }
    for name in ["setting-0", "setting-1"] {
        assert_eq!(store.setting(name).await, Ok(model.settings.get(name).cloned()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_model(actions in prop::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("region.db");
            let mut store = SqliteStore::open(&path).unwrap();
            let mut model = Model::default();
            let is_carried = actions.len() % 4 == 0;
            for action in actions {
                let reopen = matches!(action, Action::Reopen);
                step(&store, &mut model, action).await;
                if reopen {
                    store.close().await.unwrap();
                    store = SqliteStore::open(&path).unwrap();
                    compare(&store, &model).await;
                }
            }
            compare(&store, &model).await;
            store.close().await.unwrap();
            if !is_carried {
                return;
            }
            // And through a file it comes into another store as it was.
            let mut snapshot = SqliteSnapshot::open(&path).unwrap();
            let mut file = Cursor::new(Vec::new());
            dump(&mut snapshot, "0", LAUNCHED_AT, &mut file).await.unwrap();
            let path = directory.path().join("other.db");
            let loading = Box::new(SqliteLoading::begin(&path).unwrap());
            load(DumpFile::open(file).unwrap().frames(), loading).await.unwrap();
            let store = SqliteStore::open(&path).unwrap();
            compare(&store, &model).await;
            store.close().await.unwrap();
        });
    }
}
