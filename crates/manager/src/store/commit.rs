//! Takes findings in: one transaction for a batch and the cursors that cover it.

use std::collections::BTreeMap;

use tw_model::link::{Cursor, Spooled};
use tw_model::status::SpoolLane;

use super::{Bind, Kind, Store, StoreError, plain, statement};

/// A finding as it arrives, with the workload that its container belongs to.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The finding and its place in the spool.
    pub spooled: Spooled,
    /// [`tw_model::Workload::key`], empty if there is no container or it is not known.
    pub workload: String,
}

/// What a commit changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Findings that were new.
    pub stored: u64,
    /// Findings that were there already.
    pub redelivered: u64,
}

const COLUMNS: &str = "id, node, lane, seq, time_us, received_us, priority, rule, source, event, container_id, \
                       container_name, image, workload, fingerprint, message, body, size";
/// Rows of one statement, tried in this order: few texts, so that each is prepared once.
const CHUNKS: [usize; 3] = [64, 8, 1];
/// What a row costs beside its texts.
const OVERHEAD: usize = 160;
/// Texts that an index holds are cut here.
const KEY: usize = 512;
/// Longest message in bytes that is kept for searching; the whole is in the body.
const MESSAGE: usize = 16 << 10;

impl Store {
    /// Commits a batch. What is there already is left as it is. When this returns, the batch is durable.
    ///
    /// # Errors
    /// See [`StoreError`]; then nothing of the batch was stored, or, if the database went away during the commit,
    /// perhaps all of it.
    pub async fn commit(&self, node: &str, batch: &[Incoming], now_us: i64) -> Result<Committed, StoreError> {
        let received = self.received(now_us);
        let mut rows = Vec::with_capacity(batch.len());
        let mut cursors = BTreeMap::new();
        for incoming in batch {
            let seq = int(incoming.spooled.seq);
            let newest = cursors.entry(incoming.spooled.lane).or_insert(seq);
            *newest = seq.max(*newest);
            rows.push(self.row(node, incoming, received)?);
        }
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let mut tx = self.begin().await?;
            let mut committed = Committed::default();
            let mut bytes = 0;
            let mut rest = rows;
            while !rest.is_empty() {
                let n = CHUNKS.into_iter().find(|n| *n <= rest.len()).unwrap_or(1);
                let later = rest.split_off(n);
                let binds = std::mem::replace(&mut rest, later).into_iter().flatten().collect();
                for row in statement(insert(n), binds).fetch_all(&mut *tx).await? {
                    committed.stored += 1;
                    bytes += sqlx::Row::try_get::<i64, _>(&row, "size")?;
                }
            }
            committed.redelivered = batch.len() as u64 - committed.stored;
            for (lane, seq) in cursors {
                let sql = "insert into cursors (node, lane, seq) values ($1, $2, $3) \
                           on conflict (node, lane) do update set seq = excluded.seq where excluded.seq > cursors.seq";
                statement(sql, vec![node.into(), lane.name().into(), seq.into()]).execute(&mut *tx).await?;
            }
            grow(&mut tx, Kind::Findings, int(committed.stored), bytes).await?;
            tx.commit().await?;
            Ok(committed)
        })
        .await
    }

    /// Up to where the store has everything of a node, for both lanes.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn cursors(&self, node: &str) -> Result<Vec<Cursor>, StoreError> {
        let rows = self.all("select lane, seq from cursors where node = $1", vec![node.into()]).await?;
        let mut cursors: Vec<_> = SpoolLane::ALL.into_iter().map(|lane| Cursor { lane, seq: 0 }).collect();
        for row in rows {
            let (lane, seq) = (self.text(&row, "lane")?, self.int(&row, "seq")?);
            for cursor in cursors.iter_mut().filter(|cursor| cursor.lane.name() == lane) {
                cursor.seq = seq.try_into().unwrap_or(0);
            }
        }
        Ok(cursors)
    }

    fn row(&self, node: &str, incoming: &Incoming, received: i64) -> Result<Vec<Bind>, StoreError> {
        let Spooled { lane, seq, finding } = &incoming.spooled;
        let body = serde_json::to_string(finding).map_err(|error| StoreError::Other {
            place: self.place().shown(),
            reason: format!("finding {} cannot be written as JSON: {error}", finding.id),
        })?;
        let container = finding.container.clone().unwrap_or_default();
        let message = plain(&finding.message, MESSAGE);
        let size = body.len() + message.len() + OVERHEAD;
        let key = |text: &str| Bind::Text(plain(text, KEY));
        Ok(vec![
            finding.id.to_string().as_str().into(),
            key(node),
            lane.name().into(),
            int(*seq).into(),
            int(finding.time_ns / 1000).into(),
            received.into(),
            (finding.priority as i64).into(),
            key(finding.cause.name()),
            key(&finding.source),
            key(&finding.event),
            key(&container.id),
            key(&container.name),
            key(&container.image),
            key(&incoming.workload),
            format!("{:016x}", finding.fingerprint).as_str().into(),
            Bind::Text(message),
            Bind::Text(body),
            int(size as u64).into(),
        ])
    }
}

/// Adds to the totals of a kind that is counted. Comes last in a transaction, since it locks the kind's row.
pub(super) async fn grow(tx: &mut sqlx::AnyConnection, kind: Kind, rows: i64, bytes: i64) -> Result<(), sqlx::Error> {
    if rows == 0 || !kind.is_counted() {
        return Ok(());
    }
    let sql = "update totals set row_count = row_count + $1, byte_count = byte_count + $2 where kind = $3";
    statement(sql, vec![rows.into(), bytes.into(), kind.name().into()]).execute(tx).await.map(|_| ())
}

/// Both databases have no unsigned numbers.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn insert(rows: usize) -> String {
    let width = COLUMNS.split(',').count();
    let row = |n: usize| {
        let places: Vec<_> = (1..=width).map(|column| format!("${}", n * width + column)).collect();
        format!("({})", places.join(", "))
    };
    let values: Vec<_> = (0..rows).map(row).collect();
    format!("insert into findings ({COLUMNS}) values {} on conflict (id) do nothing returning size", values.join(", "))
}
