//! What is in an SQLite file, as text.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("a file of SQLite")
}

/// Its version, and how its tables are made.
pub(crate) async fn schema(path: &Path) -> String {
    let mut connection = open(path).await;
    let version: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.expect("it has one");
    let made: Vec<String> = sqlx::query_scalar(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name",
    )
    .fetch_all(&mut connection)
    .await
    .expect("its tables are read");
    connection.close().await.expect("it is closed");
    format!("version {version}\n{}\n", made.join("\n"))
}

/// Every row of every table, as SQL writes its values.
pub(crate) async fn rows(path: &Path) -> String {
    let mut connection = open(path).await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            .fetch_all(&mut connection)
            .await
            .expect("its tables are read");
    let mut text = String::new();
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(&table)
            .fetch_all(&mut connection)
            .await
            .expect("its columns are read");
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let query = format!("SELECT {} AS row FROM {table} ORDER BY row", quoted.join(" || ', ' || "));
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await.expect("rows are read");
        for row in rows {
            text.push_str(&format!("{table}: {row}\n"));
        }
    }
    connection.close().await.expect("it is closed");
    text
}

/// Brings what stands beside the file into it.
pub(crate) async fn in_one_file(path: &Path) {
    let mut connection = open(path).await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.expect("it is one file");
    sqlx::query("VACUUM").execute(&mut connection).await.expect("it is made small");
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.expect("it is one file");
    connection.close().await.expect("it is closed");
}
