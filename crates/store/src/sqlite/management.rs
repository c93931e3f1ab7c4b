//! Roles and registrations as rows.

use inborn_identity::{AccountId, InstanceId, RoleName};
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, setting, time};
use crate::{Conflict, Registration, RegistrationChange, Role, SettingBasis, StoreError};

/// See [`crate::Store::roles`].
pub(super) fn roles(connection: &Connection) -> Outcome<Vec<Role>> {
    all(connection, "SELECT * FROM roles ORDER BY account, name", |row| {
        Ok(Role {
            account: parsed(row, "account")?,
            name: parsed(row, "name")?,
            path: column(row, "path")?,
            role_id: column(row, "role_id")?,
            description: column(row, "description")?,
            created_at: moment(row, "created_at")?,
        })
    })
}

/// See [`crate::Store::put_role`].
pub(super) fn put_role(connection: &Connection, role: &Role) -> Outcome<()> {
    let sql =
        "INSERT INTO roles (account, name, path, role_id, description, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (
        role.account.to_string(),
        role.name.as_str(),
        &role.path,
        &role.role_id,
        &role.description,
        time(role.created_at),
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "a role"))
}

/// See [`crate::Store::delete_role`].
pub(super) fn delete_role(connection: &Connection, account: AccountId, name: &RoleName) -> Outcome<bool> {
    let deleted = connection
        .prepare_cached("DELETE FROM roles WHERE account = ?1 AND name = ?2")
        .and_then(|mut sql| sql.execute((account.to_string(), name.as_str())));
    deleted.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// See [`crate::Store::registration`].
pub(super) fn registration(connection: &Connection, instance: InstanceId) -> Outcome<Option<Registration>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM registrations WHERE instance_id = ?1").map_err(fault::from_sqlite)?;
    let mut rows = statement.query((instance.to_string(),)).map_err(fault::from_sqlite)?;
    rows.next().map_err(fault::from_sqlite)?.map(read).transpose()
}

/// See [`crate::Store::registrations`].
pub(super) fn registrations(connection: &Connection) -> Outcome<Vec<Registration>> {
    all(connection, "SELECT * FROM registrations ORDER BY instance_id", read)
}

fn read(row: &Row<'_>) -> Outcome<Registration> {
    Ok(Registration {
        instance: parsed(row, "instance_id")?,
        public_key: column(row, "public_key")?,
        registered_at: moment(row, "registered_at")?,
        key_changed_at: moment(row, "key_changed_at")?,
    })
}

/// See [`crate::Store::change_registration`].
pub(super) fn change_registration(connection: &Connection, change: &RegistrationChange) -> Outcome<()> {
    let id = change.instance.to_string();
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM instances WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((&id,), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    if state.is_none_or(|state| state == "terminated") {
        return Err(StoreError::NotFound(vec![change.instance]));
    }
    if registration(connection, change.instance)?.map(|found| found.public_key) != change.expected {
        return Err(Conflict::KeyChanged(change.instance).into());
    }
    if let Some(SettingBasis { name, value }) = &change.basis
        && setting(connection, name)?.as_ref() != Some(value)
    {
        return Err(Conflict::SettingChanged(name.clone()).into());
    }
    let done = match &change.public_key {
        Some(key) => connection
            .prepare_cached(
                "INSERT INTO registrations (instance_id, public_key, registered_at, key_changed_at) VALUES (?1, ?2, ?3, ?3) \
                 ON CONFLICT (instance_id) DO UPDATE SET public_key = excluded.public_key, \
                 key_changed_at = excluded.key_changed_at",
            )
            .and_then(|mut sql| sql.execute((&id, key, time(change.at)))),
        None => connection
            .prepare_cached("DELETE FROM registrations WHERE instance_id = ?1")
            .and_then(|mut sql| sql.execute((&id,))),
    };
    done.map(drop).map_err(fault::from_sqlite)
}
