//! Only SQL that PostgreSQL, CockroachDB and YugabyteDB share: reads the sources, needs no database. What may be used is listed; whoever
//! needs a word that is not looks it up in the manuals of all three first.
#![allow(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use inborn_store::dump::{INVARIANTS, TABLES};

/// What is written in capitals: keywords, types of columns, and functions. Not here, for instance: `INTEGER` and `INT` (64 bits in
/// CockroachDB; write BIGINT), `SERIAL` and sequences (one hot key), `LISTEN`, `NOTIFY`, `LOCK`, `DEFERRABLE` (CockroachDB has none),
/// `COLLATE` (another type in CockroachDB), `LATERAL`, `MERGE`, `CURSOR`, `TRIGGER` (not in every version of all three), `JSONB` and
/// `INTERVAL` (operators and forms differ), `NOW` (time comes in as a value), `NOWAIT` (waits are bounded by the statement's time).
const WORDS: &[&str] = &[
    // Statements and their clauses.
    "ADD",
    "ALTER",
    "ANY",
    "AS",
    "BEGIN",
    "BY",
    "COLUMN",
    "COMMIT",
    "CONFLICT",
    "CREATE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DO",
    "DROP",
    "EXISTS",
    "FOR",
    "FROM",
    "GROUP",
    "IF",
    "IN",
    "INDEX",
    "INSERT",
    "INTO",
    "JOIN",
    "LIMIT",
    "NOTHING",
    "ON",
    "ONLY",
    "ORDER",
    "OVER",
    "PARTITION",
    "RETURNING",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "UNION",
    "ALL",
    "UPDATE",
    "VALUES",
    "WHERE",
    "WITH",
    // Transactions.
    "ISOLATION",
    "LEVEL",
    "LOCAL",
    "READ",
    "COMMITTED",
    "REPEATABLE",
    "SERIALIZABLE",
    "TRANSACTION",
    "WRITE",
    // Expressions.
    "AND",
    "BETWEEN",
    "CASE",
    "ELSE",
    "END",
    "FALSE",
    "IS",
    "LIKE",
    "NOT",
    "NULL",
    "OR",
    "THEN",
    "TRUE",
    "WHEN",
    // Constraints.
    "CASCADE",
    "CHECK",
    "FOREIGN",
    "KEY",
    "PRIMARY",
    "REFERENCES",
    "UNIQUE",
    // Types.
    "BIGINT",
    "BOOLEAN",
    "BYTEA",
    "TEXT",
    // Functions.
    "CAST",
    "COALESCE",
    "CONVERT_FROM",
    "COUNT",
    "LENGTH",
    "LOWER",
    "MAX",
    "MIN",
    "NULLIF",
    "OCTET_LENGTH",
    "ROW_NUMBER",
    "SUBSTRING",
    "SUM",
    "UNNEST",
];

/// Names that no migration gives: settings of a connection, what the standard's catalogue has, what a conflict met, and the two
/// functions without arguments.
const NAMES: &[&str] = &[
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
    "synchronous_commit",
    "server_encoding",
    "information_schema",
    "tables",
    "table_name",
    "table_schema",
    "table_type",
    "excluded",
];
const FUNCTIONS: &[&str] = &["current_database", "current_schema"];

/// Characters of operators and punctuation. `::` is refused: write CAST.
const SIGNS: &str = "=<>+-*/(),.;$[]|";

/// The words of a text of SQL and what stands between them, without what is in quotes and what a format puts in.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Part {
    Word(String),
    Sign(char),
}

fn parts(sql: &str) -> Vec<Part> {
    let (mut parts, mut rest) = (Vec::new(), sql.chars().peekable());
    while let Some(character) = rest.next() {
        match character {
            // A text, or what a format puts there, which is a text of its own or a number.
            '\'' => while rest.next().is_some_and(|inner| inner != '\'') {},
            '{' => {
                while rest.next().is_some_and(|inner| inner != '}') {}
                parts.push(Part::Sign('$'));
            }
            _ if character.is_whitespace() => (),
            _ if character.is_ascii_alphanumeric() || character == '_' => {
                let mut word = String::from(character);
                while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                if !word.bytes().all(|byte| byte.is_ascii_digit()) {
                    parts.push(Part::Word(word));
                }
            }
            sign => parts.push(Part::Sign(sign)),
        }
    }
    parts
}

fn is_lower(word: &str) -> bool {
    !word.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Names that statements may use.
#[derive(Default)]
struct Names {
    /// Of columns, indexes and constraints too.
    all: BTreeSet<String>,
    /// What may have a list of columns behind it.
    tables: BTreeSet<String>,
}

impl Names {
    /// Takes over the names that a statement gives: of tables, columns and indexes, and what stands around `AS`.
    fn learn(&mut self, sql: &str) {
        let parts = parts(sql);
        let word = |at: usize| match parts.get(at) {
            Some(Part::Word(word)) => Some(word.as_str()),
            _ => None,
        };
        let makes = matches!(word(0), Some("CREATE" | "ALTER"));
        for (at, part) in parts.iter().enumerate() {
            let Part::Word(name) = part else { continue };
            if !is_lower(name) {
                continue;
            }
            let before = at.checked_sub(1).and_then(word);
            let calls = parts.get(at + 1) == Some(&Part::Sign('('));
            let is_table = makes && calls && matches!(before, Some("TABLE" | "EXISTS" | "ON" | "REFERENCES"));
            let is_alias = before == Some("AS") || word(at + 1) == Some("AS");
            if is_table || is_alias {
                self.tables.insert(name.clone());
            }
            if is_table || is_alias || (makes && !calls) {
                self.all.insert(name.clone());
            }
            // The columns of an alias.
            if before == Some("AS") && calls {
                let inside = parts.iter().skip(at + 2).take_while(|part| **part != Part::Sign(')'));
                self.all.extend(inside.filter_map(|part| match part {
                    Part::Word(word) => Some(word.clone()),
                    Part::Sign(_) => None,
                }));
            }
        }
    }

    /// What of a text is not known to be in all three.
    fn refused(&self, sql: &str) -> Vec<String> {
        let parts = parts(sql);
        let mut found = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let next = parts.get(at + 1);
            match part {
                Part::Word(word) if is_lower(word) => {
                    let calls = next == Some(&Part::Sign('('));
                    let is_function = FUNCTIONS.contains(&word.as_str());
                    let is_known = self.all.contains(word) || NAMES.contains(&word.as_str());
                    let may_be = if calls { is_function || self.tables.contains(word) } else { is_known };
                    if !may_be {
                        let what = if calls { "a function" } else { "a word, or a name" };
                        found.push(format!("{word}: {what} that is not listed"));
                    }
                }
                Part::Word(word) if !WORDS.contains(&word.as_str()) => {
                    found.push(format!("{word}: a word that is not listed"));
                }
                Part::Word(word) => {
                    let follows = |what: &str| matches!(next, Some(Part::Word(next)) if next == what);
                    if word == "DISTINCT" && follows("ON") {
                        found.push("DISTINCT ON: PostgreSQL's own".to_owned());
                    }
                    if matches!(word.as_str(), "SELECT" | "RETURNING") && next == Some(&Part::Sign('*')) {
                        let why = "a column that a newer program adds breaks prepared statements of an older one";
                        found.push(format!("{word} *: {why}"));
                    }
                }
                Part::Sign(sign) if !SIGNS.contains(*sign) => found.push(format!("{sign}: a sign that is not listed")),
                Part::Sign(sign) => {
                    // Of two signs `<=`, `>=`, `<>` and `||` are operators; arrows are those of JSON.
                    if (*sign, next) == ('-', Some(&Part::Sign('>'))) {
                        found.push("->: an operator that is not listed".to_owned());
                    }
                }
            }
        }
        found
    }
}

/// The texts in double quotes of Rust source, up to its tests, with the lines that end in a backslash joined.
fn texts_of(source: &str) -> Vec<String> {
    let code = source.split("\n#[cfg(test)]").next().unwrap();
    let (mut texts, mut at) = (Vec::new(), 0);
    while let Some(character) = code[at..].chars().next() {
        let rest = &code[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\''") {
            at += rest[1..].find('\'').unwrap() + 2;
        } else if character == '"' {
            let (mut text, mut is_escaped, mut length) = (String::new(), false, 1);
            for inner in rest[1..].chars() {
                length += inner.len_utf8();
                if is_escaped {
                    text.push_str(if inner == '\n' { "\\\n" } else { "?" });
                    is_escaped = false;
                } else if inner == '\\' {
                    is_escaped = true;
                } else if inner == '"' {
                    break;
                } else {
                    text.push(inner);
                }
            }
            texts.push(joined(&text));
            at += length;
        } else {
            at += character.len_utf8();
        }
    }
    texts
}

fn joined(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + line.trim_start())
}

/// Whether a text is SQL, or a piece of it: it begins as one, or has a word in it that no sentence has.
fn is_sql(text: &str) -> bool {
    let begins = [
        "BEGIN", "COMMIT", "ROLLBACK", "CREATE ", "ALTER ", "DROP ", "SET ", "SHOW ", "WITH ", "LOCK ", "COPY ",
        "DECLARE ",
    ];
    let words = [
        "SELECT",
        "FROM",
        "WHERE",
        "INSERT",
        "UPDATE",
        "DELETE",
        "VALUES",
        "RETURNING",
        "ORDER",
        "GROUP",
        "JOIN",
        "UNNEST",
        "AND",
        "OR",
        "LIMIT",
        "CAST",
        "LISTEN",
        "NOTIFY",
        "FETCH",
    ];
    begins.iter().any(|begin| text.starts_with(begin))
        || text.contains(" AS (")
        || parts(text).iter().any(|part| matches!(part, Part::Word(word) if words.contains(&word.as_str())))
}

fn statements_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "rs") {
        return texts_of(&text).into_iter().filter(|text| is_sql(text)).collect();
    }
    let code = text.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code = code.collect::<Vec<_>>().join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// All files below a directory with one of these ends.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sql") {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn sources() -> Vec<(PathBuf, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = ["migrations", "src"].into_iter().flat_map(|folder| files(&root.join(folder)));
    all.map(|path| (path.clone(), statements_of(&path))).collect()
}

/// What the statements of all sources name.
fn known(sources: &[(PathBuf, Vec<String>)]) -> Names {
    let mut names = Names::default();
    sources.iter().flat_map(|(_, statements)| statements).for_each(|statement| names.learn(statement));
    names
}

#[test]
fn all_sql_is_portable() {
    let sources = sources();
    let names = known(&sources);
    let mut wrong = Vec::new();
    for (path, statements) in &sources {
        for statement in statements {
            let refused = names.refused(statement);
            wrong.extend(refused.into_iter().map(|why| format!("{}: {why}\n  {statement}", path.display())));
        }
    }
    for table in TABLES {
        let of_it =
            [Some(table.select('$', true)), Some(table.insert('$')), Some(table.count()), table.count_orphans()];
        for statement in of_it.into_iter().flatten() {
            let mut names = known(&sources);
            names.learn(&statement);
            wrong.extend(
                names.refused(&statement).into_iter().map(|why| format!("{}: {why}\n  {statement}", table.name)),
            );
        }
    }
    for (what, statement) in INVARIANTS {
        let mut names = known(&sources);
        names.learn(statement);
        wrong.extend(names.refused(statement).into_iter().map(|why| format!("{what}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // As many as there are: a reader of sources that finds nothing would find nothing wrong.
    let seen: usize = sources.iter().map(|(_, statements)| statements.len()).sum();
    assert!(seen > 220, "{seen}");
    for name in ["instances", "cut_offs", "region_nodes", "schema_version"] {
        assert!(names.tables.contains(name), "{name}");
    }
}

#[test]
fn what_is_not_listed_is_found() {
    let mut names = Names::default();
    names.learn("CREATE TABLE IF NOT EXISTS a (b TEXT NOT NULL, c BIGINT, PRIMARY KEY (b))");
    names.learn("WITH d AS (SELECT 1) SELECT e FROM UNNEST($1) AS f (e)");
    for sql in [
        "SELECT b, COUNT(*) FROM a WHERE c >= $1 AND b <> 'it::is' ORDER BY c DESC LIMIT {limit}",
        "INSERT INTO a (b, c) SELECT e, c + 1 FROM f ON CONFLICT (b) DO UPDATE SET c = excluded.c RETURNING b",
        "SELECT DISTINCT b FROM a FOR UPDATE",
        "WITH d AS (DELETE FROM a WHERE b = ANY($1) RETURNING b) SELECT COUNT(1) FROM d",
        "SELECT b || '->' FROM a WHERE c BETWEEN 1 AND 64",
    ] {
        assert_eq!(names.refused(sql), Vec::<String>::new(), "{sql}");
    }
    for sql in [
        "LISTEN a",
        "SELECT pg_notify('a', 'b')",
        "SELECT PG_ADVISORY_XACT_LOCK(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_sleep(1)",
        "SELECT 1 FROM pg_stat_activity",
        "CREATE TABLE a (b SERIAL)",
        "CREATE TABLE a (b INTEGER)",
        "CREATE TABLE a (b INT)",
        "CREATE TABLE a (b JSONB)",
        "CREATE TABLE a (b TIMESTAMPTZ)",
        "CREATE TABLE a (b TEXT COLLATE \"C\")",
        "CREATE UNLOGGED TABLE a (b TEXT)",
        "CREATE INDEX CONCURRENTLY a ON a (b)",
        "CREATE INDEX a ON a USING GIN (b)",
        "CREATE INDEX a ON a (lower(b))",
        "CREATE TRIGGER a AFTER INSERT ON a EXECUTE FUNCTION b",
        "SELECT b FROM a, LATERAL (SELECT c FROM a) AS d",
        "select b from a, lateral (select c from a) as d",
        "SELECT DISTINCT ON (b) b FROM a",
        "SELECT b FROM a WHERE c > NOW()",
        "SELECT b FROM a WHERE c > now()",
        "SELECT b FROM a WHERE c > CURRENT_TIMESTAMP",
        "SELECT CAST(b AS INTERVAL) FROM a",
        "SELECT jsonb_agg(b) FROM a",
        "SELECT JSONB_AGG(b) FROM a",
        "SELECT Jsonb_Agg(b) FROM a",
        "SELECT b -> 'c' FROM a",
        "SELECT b ->> 'c' FROM a",
        "SELECT b FROM a WHERE b ~ 'c'",
        "SELECT b FROM a WHERE b @> 'c'",
        "SELECT b::TEXT FROM a",
        "SELECT * FROM a",
        "DELETE FROM a RETURNING *",
        "SELECT ctid FROM a",
        "SELECT b(c) FROM a",
        "SELECT unknown FROM a",
        "LOCK TABLE a",
        "DECLARE a CURSOR FOR SELECT b FROM a",
        "SELECT b FROM a FOR UPDATE NOWAIT",
        "SELECT b FROM a FOR UPDATE SKIP LOCKED",
        "MERGE INTO a",
        "VACUUM a",
        "SELECT b FROM a TABLESAMPLE SYSTEM (1)",
        "SELECT nextval('a')",
    ] {
        assert!(!names.refused(sql).is_empty(), "{sql}");
    }
}

#[test]
fn texts_are_read_as_the_compiler_does() {
    let source = "let sql = \"SELECT 1 \\\n    FROM a\"; let quote = '\"';\nlet text = \"a lock\"; // \"SELECT\nlet more = \
        \" AND b = 'c'\";\nlet of_lock = \"LOCK TABLE a\";\n#[cfg(test)]\n\"SELECT 2\"";
    let texts = texts_of(source);
    assert_eq!(texts, ["SELECT 1 FROM a", "a lock", " AND b = 'c'", "LOCK TABLE a"]);
    let found: Vec<_> = texts.iter().filter(|text| is_sql(text)).collect();
    assert_eq!(found, ["SELECT 1 FROM a", " AND b = 'c'", "LOCK TABLE a"]);
    assert!(is_sql("{SELECT} WHERE id = $1") && !is_sql("the store says no: begin again"));
    // Also of directories in it.
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
    for name in ["a/b/c.rs", "d.sql", "e.txt"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    assert_eq!(files(directory.path()).len(), 2);
}
