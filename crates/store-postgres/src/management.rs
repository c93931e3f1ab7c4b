//! Roles and registrations as rows.

use inborn_identity::{AccountId, InstanceId, RoleName};
use inborn_store::{Conflict, Registration, RegistrationChange, Role, SettingBasis};

use crate::fault::Outcome;
use crate::instances;
use crate::records::held_setting;
use crate::transaction::Session;
use crate::value::{Row, Value, values};

/// See [`inborn_store::Store::roles`].
pub(crate) async fn roles(session: &Session<'_>) -> Outcome<Vec<Role>> {
    let read = |row: &Row| {
        Ok(Role {
            account: row.parsed("account")?,
            name: row.parsed("name")?,
            path: row.text("path")?,
            role_id: row.text("role_id")?,
            description: row.text("description")?,
            created_at: row.moment("created_at")?,
        })
    };
    let sql = "SELECT account, name, path, role_id, description, created_at FROM roles ORDER BY account, name";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_role`].
pub(crate) async fn put_role(session: &Session<'_>, role: &Role) -> Outcome<()> {
    let sql =
        "INSERT INTO roles (account, name, path, role_id, description, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let row = values![
        role.account.to_string(),
        role.name.as_str(),
        &role.path,
        &role.role_id,
        &role.description,
        role.created_at,
    ];
    session.put(sql, row, "a role").await
}

/// See [`inborn_store::Store::delete_role`].
pub(crate) async fn delete_role(session: &Session<'_>, (account, name): &(AccountId, RoleName)) -> Outcome<bool> {
    let sql = "DELETE FROM roles WHERE account = $1 AND name = $2";
    Ok(session.run(sql, values![account.to_string(), name.as_str()]).await? > 0)
}

/// See [`inborn_store::Store::registration`].
pub(crate) async fn registration(session: &Session<'_>, instance: &InstanceId) -> Outcome<Option<Registration>> {
    let sql = "SELECT instance_id, public_key, registered_at, key_changed_at FROM registrations WHERE instance_id = $1";
    session.row(sql, &[Value::shown(instance)]).await?.as_ref().map(read).transpose()
}

/// See [`inborn_store::Store::registrations`].
pub(crate) async fn registrations(session: &Session<'_>) -> Outcome<Vec<Registration>> {
    let sql = "SELECT instance_id, public_key, registered_at, key_changed_at FROM registrations ORDER BY instance_id";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<Registration> {
    Ok(Registration {
        instance: row.parsed("instance_id")?,
        public_key: row.bytes("public_key")?,
        registered_at: row.moment("registered_at")?,
        key_changed_at: row.moment("key_changed_at")?,
    })
}

/// See [`inborn_store::Store::change_registration`].
pub(crate) async fn change_registration(session: &Session<'_>, change: &RegistrationChange) -> Outcome<()> {
    instances::expect_alive(session, change.instance).await?;
    if registration(session, &change.instance).await?.map(|found| found.public_key) != change.expected {
        return Err(Conflict::KeyChanged(change.instance).into());
    }
    if let Some(SettingBasis { name, value }) = &change.basis
        && held_setting(session, name).await?.as_ref() != Some(value)
    {
        return Err(Conflict::SettingChanged(name.clone()).into());
    }
    let id = change.instance.to_string();
    let done = match &change.public_key {
        Some(key) => {
            let sql = "INSERT INTO registrations (instance_id, public_key, registered_at, key_changed_at) \
                VALUES ($1, $2, $3, $3) ON CONFLICT (instance_id) DO UPDATE SET public_key = excluded.public_key, \
                key_changed_at = excluded.key_changed_at";
            session.run(sql, values![id, key.as_slice(), change.at]).await
        }
        None => session.run("DELETE FROM registrations WHERE instance_id = $1", values![id]).await,
    };
    done.map(drop)
}
