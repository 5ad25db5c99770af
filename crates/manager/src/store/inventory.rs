//! What is seen besides findings: nodes, containers, images, workloads, rule files.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use tw_model::status::{Node, RuleFile};
use tw_model::{Container, Workload};

use super::commit::int;
use super::{Bind, Store, StoreError, plain, statement};

/// Texts of the inventory are cut here; the whole is in the body.
const KEY: usize = 512;
/// Rows of containers that are read back at most.
const MOST: i64 = 20_000;

/// Changes to be written together.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Containers that are new or different.
    pub changed: Vec<Container>,
    /// Ids of containers that are no more.
    pub gone: Vec<String>,
    /// All rule files in force, if they are to be written.
    pub rules: Option<Vec<RuleFile>>,
    /// Whether all that is present is to be marked as seen now.
    pub touch: bool,
}

impl Inventory {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty() && self.rules.is_none() && !self.touch
    }
}

/// A container as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRow {
    /// Node that it runs on.
    pub node: String,
    /// [`Workload::key`].
    pub workload: String,
    /// First seen, microseconds since the epoch.
    pub first_seen: i64,
    /// Last seen, microseconds since the epoch.
    pub last_seen: i64,
    /// When it was found gone; 0 while it is there.
    pub gone: i64,
    /// The container.
    pub container: Container,
}

/// An image as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRow {
    /// Id of the image, else digest, else name.
    pub id: String,
    /// Name as the user gave it last.
    pub name: String,
    /// Digest; empty if unknown.
    pub digest: String,
    /// First seen, microseconds since the epoch.
    pub first_seen: i64,
    /// Last seen, microseconds since the epoch.
    pub last_seen: i64,
    /// Containers of it that are there now.
    pub running: i64,
}

/// A workload as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadRow {
    /// [`Workload::key`].
    pub id: String,
    /// The workload.
    pub workload: Workload,
    /// First seen, microseconds since the epoch.
    pub first_seen: i64,
    /// Last seen, microseconds since the epoch.
    pub last_seen: i64,
    /// Containers of it that are there now.
    pub running: i64,
}

/// A rule file as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleRow {
    /// Node that uses it.
    pub node: String,
    /// Path, or name within the default pack.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// First seen, microseconds since the epoch.
    pub first_seen: i64,
    /// Last seen, microseconds since the epoch.
    pub last_seen: i64,
    /// Whether it is in force now.
    pub in_force: bool,
}

fn key(text: &str) -> Bind {
    Bind::Text(plain(text, KEY))
}

fn image_id(container: &Container) -> &str {
    [&container.image_id, &container.digest, &container.image].into_iter().find(|id| !id.is_empty()).map_or("", |id| id)
}

impl Store {
    /// Writes down who the agent is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn node(&self, node: &Node, version: &str, now_us: i64) -> Result<(), StoreError> {
        let sql = "insert into nodes (id, hostname, boot_id, version, first_seen, last_seen) \
                   values ($1, $2, $3, $4, $5, $5) on conflict (id) do update set hostname = excluded.hostname, \
                   boot_id = excluded.boot_id, version = excluded.version, last_seen = excluded.last_seen";
        let binds = vec![key(&node.id), key(&node.hostname), key(&node.boot_id), key(version), now_us.into()];
        let _gate = self.shared.gate.lock().await;
        self.patiently(async { statement(sql, binds).execute(&self.shared.pool).await.map(|_| ()) }).await
    }

    /// Writes changes of a node's inventory in one transaction.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn inventory(&self, node: &str, changes: &Inventory, now_us: i64) -> Result<(), StoreError> {
        let now = Bind::Int(now_us);
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let mut tx = self.begin().await?;
            for container in &changes.changed {
                for (sql, binds) in upserts(node, container, now_us) {
                    statement(sql, binds).execute(&mut *tx).await?;
                }
            }
            for id in &changes.gone {
                let sql = "update containers set gone = $1, last_seen = $1 where id = $2 and node = $3 and gone = 0";
                statement(sql, vec![now.clone(), key(id), key(node)]).execute(&mut *tx).await?;
            }
            if let Some(files) = &changes.rules {
                let sql = "update rule_files set in_force = 0, last_seen = $1 where node = $2 and in_force = 1";
                statement(sql, vec![now.clone(), key(node)]).execute(&mut *tx).await?;
                for file in files {
                    let sql = "insert into rule_files (id, node, name, digest, first_seen, last_seen, in_force, size) \
                               values ($1, $2, $3, $4, $5, $5, 1, $6) on conflict (id) do update set \
                               last_seen = excluded.last_seen, in_force = 1";
                    // The digest first: names may be as long as paths are.
                    let id = plain(&format!("{} {node} {}", file.digest, file.name), KEY);
                    let size = int((id.len() + file.name.len() + file.digest.len() + 64) as u64);
                    let binds =
                        vec![Bind::Text(id), key(node), key(&file.name), key(&file.digest), now.clone(), size.into()];
                    statement(sql, binds).execute(&mut *tx).await?;
                }
            }
            if changes.touch {
                for sql in [
                    "update containers set last_seen = $1 where node = $2 and gone = 0",
                    "update images set last_seen = $1 where id in \
                     (select image_id from containers where node = $2 and gone = 0)",
                    "update workloads set last_seen = $1 where id in \
                     (select workload from containers where node = $2 and gone = 0)",
                    "update rule_files set last_seen = $1 where node = $2 and in_force = 1",
                ] {
                    statement(sql, vec![now.clone(), key(node)]).execute(&mut *tx).await?;
                }
            }
            tx.commit().await
        })
        .await
    }

    /// The containers of a node, by full id: those that are there, and as many of the others as fit.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn containers_of(&self, node: &str) -> Result<BTreeMap<String, ContainerRow>, StoreError> {
        let sql = format!("{CONTAINERS} where node = $1 order by gone = 0 desc, last_seen desc limit {MOST}");
        let rows = self.all(&sql, vec![key(node)]).await?;
        let rows = rows.iter().map(|row| self.container(row).map(|row| (row.container.id.clone(), row)));
        rows.collect()
    }

    /// Containers, those that are there first; at most `limit`, behind the id `after`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn containers(&self, all: bool, limit: u32, after: &str) -> Result<Vec<ContainerRow>, StoreError> {
        let sql = format!("{CONTAINERS} where id > $1 and (gone = 0 or $2 = 1) order by id limit $3");
        let binds = vec![after.into(), i64::from(all).into(), i64::from(limit).into()];
        self.all(&sql, binds).await?.iter().map(|row| self.container(row)).collect()
    }

    /// Images by id, at most `limit`, behind the id `after`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn images(&self, limit: u32, after: &str) -> Result<Vec<ImageRow>, StoreError> {
        let sql = "select id, name, digest, first_seen, last_seen, (select count(*) from containers \
                   where image_id = images.id and gone = 0) as running from images where id > $1 order by id limit $2";
        let rows = self.all(sql, vec![after.into(), i64::from(limit).into()]).await?;
        let image = |row: &AnyRow| {
            Ok(ImageRow {
                id: self.text(row, "id")?,
                name: self.text(row, "name")?,
                digest: self.text(row, "digest")?,
                first_seen: self.int(row, "first_seen")?,
                last_seen: self.int(row, "last_seen")?,
                running: self.int(row, "running")?,
            })
        };
        rows.iter().map(image).collect()
    }

    /// Workloads by key, at most `limit`, behind the key `after`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn workloads(&self, limit: u32, after: &str) -> Result<Vec<WorkloadRow>, StoreError> {
        let sql = "select id, namespace, kind, name, container, image, first_seen, last_seen, \
                   (select count(*) from containers where workload = workloads.id and gone = 0) as running \
                   from workloads where id > $1 order by id limit $2";
        let rows = self.all(sql, vec![after.into(), i64::from(limit).into()]).await?;
        let workload = |row: &AnyRow| {
            Ok(WorkloadRow {
                id: self.text(row, "id")?,
                workload: Workload {
                    namespace: self.text(row, "namespace")?,
                    kind: self.text(row, "kind")?,
                    name: self.text(row, "name")?,
                    container: self.text(row, "container")?,
                    image: self.text(row, "image")?,
                },
                first_seen: self.int(row, "first_seen")?,
                last_seen: self.int(row, "last_seen")?,
                running: self.int(row, "running")?,
            })
        };
        rows.iter().map(workload).collect()
    }

    /// Rule files, those in force first, then the newest; at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rules(&self, limit: u32) -> Result<Vec<RuleRow>, StoreError> {
        let sql = "select node, name, digest, first_seen, last_seen, in_force from rule_files \
                   order by in_force desc, last_seen desc, id limit $1";
        let rows = self.all(sql, vec![i64::from(limit).into()]).await?;
        let rule = |row: &AnyRow| {
            Ok(RuleRow {
                node: self.text(row, "node")?,
                name: self.text(row, "name")?,
                digest: self.text(row, "digest")?,
                first_seen: self.int(row, "first_seen")?,
                last_seen: self.int(row, "last_seen")?,
                in_force: self.int(row, "in_force")? != 0,
            })
        };
        rows.iter().map(rule).collect()
    }

    fn container(&self, row: &AnyRow) -> Result<ContainerRow, StoreError> {
        let body = self.text(row, "body")?;
        let id = self.text(row, "id")?;
        let container = serde_json::from_str(&body).unwrap_or_else(|_| Container { id, ..Container::default() });
        Ok(ContainerRow {
            node: self.text(row, "node")?,
            workload: self.text(row, "workload")?,
            first_seen: self.int(row, "first_seen")?,
            last_seen: self.int(row, "last_seen")?,
            gone: self.int(row, "gone")?,
            container,
        })
    }
}

const CONTAINERS: &str = "select id, node, workload, first_seen, last_seen, gone, body from containers";

/// The statements that write a container, its image and its workload.
fn upserts(node: &str, container: &Container, now_us: i64) -> Vec<(&'static str, Vec<Bind>)> {
    let now = Bind::Int(now_us);
    let workload = Workload::of(container);
    let body = serde_json::to_string(container).unwrap_or_default();
    let (image, id) = (image_id(container), plain(&workload.key(), KEY));
    let size = int((body.len() + 256 + id.len()) as u64);
    let mut statements = vec![(
        "insert into containers (id, node, name, image, image_id, digest, workload, body, first_seen, last_seen, gone, \
         size) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 0, $10) on conflict (id) do update set \
         node = excluded.node, name = excluded.name, image = excluded.image, image_id = excluded.image_id, \
         digest = excluded.digest, workload = excluded.workload, body = excluded.body, \
         last_seen = excluded.last_seen, gone = 0, size = excluded.size",
        vec![
            key(&container.id),
            key(node),
            key(&container.name),
            key(&container.image),
            key(image),
            key(&container.digest),
            Bind::Text(id.clone()),
            Bind::Text(body),
            now.clone(),
            size.into(),
        ],
    )];
    if !image.is_empty() {
        let size = int((image.len() + container.image.len() + container.digest.len() + 64) as u64);
        statements.push((
            "insert into images (id, name, digest, first_seen, last_seen, size) values ($1, $2, $3, $4, $4, $5) \
             on conflict (id) do update set name = excluded.name, digest = excluded.digest, \
             last_seen = excluded.last_seen, size = excluded.size",
            vec![key(image), key(&container.image), key(&container.digest), now.clone(), size.into()],
        ));
    }
    // Until the runtime told more than the id, the workload would be one of its own for each container.
    if container.complete {
        let size = int((id.len() * 2 + 96) as u64);
        statements.push((
            "insert into workloads (id, namespace, kind, name, container, image, first_seen, last_seen, size) \
             values ($1, $2, $3, $4, $5, $6, $7, $7, $8) on conflict (id) do update set last_seen = excluded.last_seen",
            vec![
                Bind::Text(id),
                key(&workload.namespace),
                key(&workload.kind),
                key(&workload.name),
                key(&workload.container),
                key(&workload.image),
                now,
                size.into(),
            ],
        ));
    }
    statements
}

/// What changed between what is kept and what the agent says now.
pub(crate) fn difference(known: &BTreeMap<String, Container>, now: &[Container]) -> Inventory {
    let present: BTreeSet<&str> = now.iter().map(|container| container.id.as_str()).collect();
    Inventory {
        changed: now.iter().filter(|container| known.get(&container.id) != Some(container)).cloned().collect(),
        gone: known.keys().filter(|id| !present.contains(id.as_str())).cloned().collect(),
        ..Inventory::default()
    }
}
