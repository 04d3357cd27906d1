//! On a real PostgreSQL: whose `schema_migrations` it is, and how tools connect.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "postgres/server.rs"]
mod server;

use lockstep_agent::postgres::schema::{SchemaTable, read_table};
use lockstep_agent::postgres::{Database, programs};
use lockstep_core::release::{Schema, SchemaState};
use server::Server;

async fn after(sql: &str) -> SchemaTable {
    let server = Server::start().await;
    server.sql(sql).await;
    read_table(&mut server.connect("postgres").await).await.unwrap()
}

async fn because_after(sql: &str) -> String {
    let there = after(sql).await;
    assert_eq!(there.schema(), None);
    let SchemaTable::Foreign { because } = there else { panic!("it is {there:?}") };
    because
}

const GOLANG_MIGRATES: &str =
    "CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);";

fn at(version: u64, state: SchemaState) -> SchemaTable {
    SchemaTable::Ours(Schema { version, state })
}

#[tokio::test]
async fn no_table_is_no_migration() {
    assert_eq!(after("").await, SchemaTable::Absent);
}

#[tokio::test]
async fn golang_migrates_table_says_where_the_schema_is() {
    let there = after(&format!("{GOLANG_MIGRATES} INSERT INTO schema_migrations VALUES (7, true)")).await;
    assert_eq!(there, at(7, SchemaState::Dirty));
}

#[tokio::test]
async fn golang_migrates_table_without_a_row_is_schema_0() {
    assert_eq!(after(GOLANG_MIGRATES).await, at(0, SchemaState::Clean));
}

#[tokio::test]
async fn several_rows_are_not_golang_migrates() {
    let rows = "INSERT INTO schema_migrations VALUES (1, false), (2, false)";
    let because = because_after(&format!("{GOLANG_MIGRATES} {rows}")).await;
    assert_eq!(because, "public.schema_migrations has several rows");
}

#[tokio::test]
async fn rails_table_is_another_tools() {
    let rails = "CREATE TABLE schema_migrations (version character varying NOT NULL PRIMARY KEY); \
        INSERT INTO schema_migrations VALUES ('20240101120000'), ('20240102120000')";
    assert_eq!(
        because_after(rails).await,
        "public.schema_migrations has the columns version character varying"
    );
}

#[tokio::test]
async fn rails_table_without_a_row_is_another_tools() {
    let rails = "CREATE TABLE schema_migrations (version character varying NOT NULL PRIMARY KEY)";
    assert!(because_after(rails).await.contains("version character varying"));
}

#[tokio::test]
async fn ectos_table_is_another_tools() {
    let ecto = "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp(0)); \
        INSERT INTO schema_migrations VALUES (20240101120000, now())";
    let because = because_after(ecto).await;
    assert!(because.contains("inserted_at timestamp without time zone, version bigint"), "{because}");
}

#[tokio::test]
async fn integers_and_texts_are_another_tools() {
    let other = "CREATE TABLE schema_migrations (version integer, dirty text)";
    assert!(because_after(other).await.contains("dirty text, version integer"));
}

#[tokio::test]
async fn a_view_is_another_tools() {
    let view = "CREATE VIEW schema_migrations AS SELECT 3::bigint AS version, false AS dirty";
    assert_eq!(because_after(view).await, "public.schema_migrations is a view");
}

#[tokio::test]
async fn a_table_of_a_schema_that_is_not_searched_is_none() {
    assert_eq!(
        after("CREATE SCHEMA other; CREATE TABLE other.schema_migrations (a int)").await,
        SchemaTable::Absent
    );
}

#[tokio::test]
async fn a_table_of_another_schema_that_is_searched_is_found() {
    let searched = "CREATE SCHEMA \"Own\"; ALTER ROLE postgres SET search_path = \"Own\", public; \
        CREATE TABLE \"Own\".schema_migrations (version character varying)";
    assert!(because_after(searched).await.starts_with("\"Own\".schema_migrations has the columns"));
}

#[tokio::test]
async fn another_tools_table_need_not_be_readable() {
    let server = Server::start().await;
    server.sql("CREATE ROLE notes LOGIN; CREATE TABLE schema_migrations (version character varying)").await;
    let there = read_table(&mut server.connect("notes").await).await.unwrap();
    assert!(matches!(there, SchemaTable::Foreign { .. }), "{there:?}");
}

#[tokio::test]
async fn golang_migrates_table_that_cannot_be_read_says_so() {
    let server = Server::start().await;
    server.sql(&format!("CREATE ROLE notes LOGIN; {GOLANG_MIGRATES}")).await;
    let error = read_table(&mut server.connect("notes").await).await.unwrap_err();
    assert!(error.to_string().contains("permission denied for table schema_migrations"), "{error}");
}

/// libpq takes a name with `=`, or one that begins like a URL, for more than a name.
#[tokio::test]
async fn pg_dump_reaches_a_database_whatever_it_is_called() {
    let server = Server::start().await;
    for (name, encoded) in
        [("a=b", "a%3Db"), ("postgres://x", "postgres%3A%2F%2Fx"), ("o'clock \\", "o%27clock%20%5C")]
    {
        server.sql(&format!("CREATE DATABASE \"{name}\"")).await;
        let (environment, url) = ("notes/production".parse().unwrap(), server.url("postgres", encoded));
        let database = Database { environment: &environment, url: &url, url_from: "DATABASE_URL" };
        let mut pg_dump = std::process::Command::new(programs(None).unwrap().join("pg_dump"));
        let dumped =
            pg_dump.args(database.tool_connection().unwrap().arguments).arg("--create").output().unwrap();
        let (said, dump) = (String::from_utf8_lossy(&dumped.stderr), String::from_utf8_lossy(&dumped.stdout));
        assert!(dumped.status.success(), "{name}: {said}");
        assert!(dump.contains(&format!("CREATE DATABASE \"{name}\"")), "{name}: {dump}");
    }
}
