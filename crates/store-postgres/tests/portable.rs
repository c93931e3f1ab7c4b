//! No SQL that PostgreSQL, CockroachDB and YugabyteDB do not share: reads the sources, needs no database.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use inborn_store::dump::{INVARIANTS, TABLES};

/// Words, and why they are not to be used.
const BANNED: &[(&str, &str)] = &[
    ("LISTEN", "CockroachDB has no notifications"),
    ("NOTIFY", "CockroachDB has no notifications"),
    ("PG_NOTIFY", "CockroachDB has no notifications"),
    ("PG_ADVISORY_LOCK", "CockroachDB has no advisory locks"),
    ("PG_ADVISORY_XACT_LOCK", "CockroachDB has no advisory locks"),
    ("PG_TRY_ADVISORY_LOCK", "CockroachDB has no advisory locks"),
    ("SERIAL", "a sequence is one hot key"),
    ("BIGSERIAL", "a sequence is one hot key"),
    ("SEQUENCE", "a sequence is one hot key"),
    ("NEXTVAL", "a sequence is one hot key"),
    ("GENERATED", "a sequence is one hot key"),
    ("INTEGER", "CockroachDB makes 64 bits of it; write BIGINT"),
    ("INT", "CockroachDB makes 64 bits of it; write BIGINT"),
    ("SMALLINT", "write BIGINT"),
    ("LOCK", "CockroachDB has no LOCK TABLE"),
    ("TRIGGER", "not every version of all three has them"),
    ("FUNCTION", "not every version of all three has them"),
    ("PROCEDURE", "not every version of all three has them"),
    ("EXTENSION", "CockroachDB has none"),
    ("DEFERRABLE", "CockroachDB does not defer constraints"),
    ("DEFERRED", "CockroachDB does not defer constraints"),
    ("COLLATE", "collated texts are another type in CockroachDB"),
    ("CTID", "a place in PostgreSQL's own files"),
    ("MERGE", "not in YugabyteDB"),
    ("VACUUM", "PostgreSQL's own"),
    ("CONCURRENTLY", "not in every version of all three"),
    ("UNLOGGED", "PostgreSQL's own"),
    ("EXCLUDE", "CockroachDB has no exclusion constraints"),
    ("NOWAIT", "waits are bounded by the statement's time"),
    ("CURSOR", "not in every version of all three"),
    ("NOW", "time comes in as a value"),
    ("CURRENT_TIMESTAMP", "time comes in as a value"),
];

/// What is banned in a text of SQL.
fn banned(sql: &str) -> Vec<String> {
    let words = sql.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_ascii_uppercase).collect();
    let mut found: Vec<String> = BANNED
        .iter()
        .filter(|(word, _)| words.iter().any(|used| used == word))
        .map(|(word, why)| format!("{word}: {why}"))
        .collect();
    let flat = sql.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    if flat.contains("SELECT *") || flat.contains("RETURNING *") {
        found.push("*: a column that a newer program adds breaks prepared statements of an older one".to_owned());
    }
    if flat.contains("::") {
        found.push("::, write CAST: one way to say it".to_owned());
    }
    found
}

/// The texts in double quotes of Rust source that are SQL, with the lines that end in a backslash joined.
fn statements_of(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let verbs = [
        "BEGIN ",
        "COMMIT",
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "CREATE ",
        "ALTER ",
        "SET ",
        "SHOW ",
        " AND ",
        " ORDER ",
        " FROM ",
        " SELECT ",
        " RETURNING ",
        " WHERE ",
        "WITH ",
        ", ",
    ];
    let texts = code.split('"').skip(1).step_by(2);
    texts.filter(|text| verbs.iter().any(|verb| text.starts_with(verb))).map(str::to_owned).collect()
}

/// All files in a folder and those within.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn all_sql_is_portable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (folder, extension) in [("src", "rs"), ("migrations", "sql")] {
        for path in files(&root.join(folder)) {
            if path.extension().is_none_or(|found| found != extension) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let statements = match extension {
                "rs" => statements_of(&text),
                _ => text
                    .lines()
                    .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
                    .collect::<Vec<_>>()
                    .join("\n")
                    .split(';')
                    .map(str::to_owned)
                    .collect(),
            };
            seen += statements.len();
            for statement in statements {
                wrong.extend(
                    banned(&statement).into_iter().map(|why| format!("{}: {why}\n  {statement}", path.display())),
                );
            }
        }
    }
    for table in TABLES {
        let of_it =
            [Some(table.select('$', true)), Some(table.insert('$')), Some(table.count()), table.count_orphans()];
        for statement in of_it.into_iter().flatten() {
            wrong.extend(banned(&statement).into_iter().map(|why| format!("{}: {why}\n  {statement}", table.name)));
        }
    }
    for (what, statement) in INVARIANTS {
        wrong.extend(banned(statement).into_iter().map(|why| format!("{what}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // As many as there are: a reader of sources that finds nothing would find nothing wrong.
    assert!(seen > 120, "{seen}");
}

#[test]
fn what_is_banned_is_found() {
    for (word, _) in BANNED {
        assert!(!banned(&format!("SELECT 1 FROM a WHERE {}", word.to_lowercase())).is_empty(), "{word}");
    }
    for sql in ["SELECT * FROM a", "DELETE FROM a RETURNING *", "SELECT a::TEXT FROM b", "LOCK TABLE a"] {
        assert!(!banned(sql).is_empty(), "{sql}");
    }
    assert!(banned("SELECT integers, now_and_then FROM notifying").is_empty());
    let source =
        "let sql = \"SELECT 1 \\\n    FROM a\";\nlet text = \"a lock\"; // \"SELECT\n#[cfg(test)]\n\"SELECT 2\"";
    assert_eq!(statements_of(source).len(), 1);
}
