//! Questions about findings: filtered, in the order of time, page by page.

use sqlx::any::AnyRow;
use tw_model::status::SpoolLane;
use tw_model::{Cause, Finding, FindingId, Priority, finding};

use super::{Bind, Store, StoreError};

/// Which findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// From this time on, microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Before this time, microseconds since the epoch.
    pub until_us: Option<i64>,
    /// This bad or worse.
    pub priority: Option<Priority>,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Container.
    pub container: Option<Container>,
    /// Image as the user named it.
    pub image: Option<String>,
    /// Part of the message, in any case of ASCII letters.
    pub text: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// Behind this one, time and id.
    pub after: Option<(i64, String)>,
    /// In which order.
    pub order: Order,
}

/// How a container is named: by its name, or by the start of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container(pub String);

/// Newest or oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFinding {
    /// Node that found it.
    pub node: String,
    /// Lane of the spool.
    pub lane: SpoolLane,
    /// Number in that lane.
    pub seq: u64,
    /// Time of the event, microseconds since the epoch: the first part of its place in a list.
    pub time_us: i64,
    /// When it came here, microseconds since the epoch.
    pub received_us: i64,
    /// [`tw_model::Workload::key`], may be empty.
    pub workload: String,
    /// The finding.
    pub finding: Finding,
}

/// What a search by id found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing.
    None,
    /// This one.
    One(Box<StoredFinding>),
    /// More than one begins like that.
    Many,
}

const SELECT: &str = "select id, node, lane, seq, time_us, received_us, priority, rule, source, event, message, \
                      workload, fingerprint, body from findings";

impl Store {
    /// Findings that pass a filter, at most its limit. The next page begins behind the last of them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn findings(&self, filter: &FindingFilter) -> Result<Vec<StoredFinding>, StoreError> {
        let mut conditions: Vec<String> = Vec::new();
        let mut binds: Vec<Bind> = Vec::new();
        let mut add = |condition: &str, values: Vec<Bind>| {
            let mut condition = condition.to_owned();
            for value in values {
                binds.push(value);
                condition = condition.replacen('?', &format!("${}", binds.len()), 1);
            }
            conditions.push(condition);
        };
        if let Some(since) = filter.since_us {
            add("time_us >= ?", vec![since.into()]);
        }
        if let Some(until) = filter.until_us {
            add("time_us < ?", vec![until.into()]);
        }
        if let Some(priority) = filter.priority {
            add("priority <= ?", vec![(priority as i64).into()]);
        }
        if let Some(rule) = &filter.rule {
            add("rule = ?", vec![rule.as_str().into()]);
        }
        if let Some(Container(named)) = &filter.container {
            // Findings hold the first twelve digits of an id.
            let id: String = named.chars().take(12).collect();
            let length = id.chars().count();
            let by_id = format!("(container_name = ? or substr(container_id, 1, {length}) = ?)");
            add(&by_id, vec![named.as_str().into(), id.as_str().into()]);
        }
        if let Some(image) = &filter.image {
            add("image = ?", vec![image.as_str().into()]);
        }
        if let Some(text) = &filter.text {
            // PostgreSQL's lower() knows more letters than SQLite's: the second arm finds these as they are written.
            let pattern =
                |text: &str| format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
            let values = vec![pattern(&text.to_ascii_lowercase()).as_str().into(), pattern(text).as_str().into()];
            add("(lower(message) like ? escape '\\' or message like ? escape '\\')", values);
        }
        let (compare, direction) = match filter.order {
            Order::Newest => ("<", "desc"),
            Order::Oldest => (">", "asc"),
        };
        if let Some((time, id)) = &filter.after {
            add(&format!("(time_us, id) {compare} (?, ?)"), vec![(*time).into(), id.as_str().into()]);
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        binds.push(i64::from(filter.limit).into());
        let limit = binds.len();
        let sql = format!("{SELECT}{condition} order by time_us {direction}, id {direction} limit ${limit}");
        self.all(&sql, binds).await?.iter().map(|row| self.stored(row)).collect()
    }

    /// The finding with this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn finding(&self, id: &str) -> Result<Found, StoreError> {
        let id = id.to_ascii_uppercase();
        if id.is_empty() || id.len() > 26 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Found::None);
        }
        let (low, high) = (format!("{id:0<26}"), format!("{id:Z<26}"));
        let sql = format!("{SELECT} where id >= $1 and id <= $2 order by id limit 2");
        let mut rows = self.all(&sql, vec![low.as_str().into(), high.as_str().into()]).await?;
        match (rows.pop(), rows.is_empty()) {
            (None, _) => Ok(Found::None),
            (Some(row), true) => Ok(Found::One(Box::new(self.stored(&row)?))),
            (Some(_), false) => Ok(Found::Many),
        }
    }

    fn stored(&self, row: &AnyRow) -> Result<StoredFinding, StoreError> {
        let body = self.text(row, "body")?;
        let finding = match serde_json::from_str(&body) {
            Ok(finding) => finding,
            Err(error) => {
                tracing::warn!(id = %self.text(row, "id")?, %error, "a stored finding cannot be read in full");
                self.columns_only(row)?
            }
        };
        let lane = self.text(row, "lane")?;
        Ok(StoredFinding {
            node: self.text(row, "node")?,
            lane: SpoolLane::ALL.into_iter().find(|known| known.name() == lane).unwrap_or_default(),
            seq: self.int(row, "seq")?.try_into().unwrap_or(0),
            time_us: self.int(row, "time_us")?,
            received_us: self.int(row, "received_us")?,
            workload: self.text(row, "workload")?,
            finding,
        })
    }

    /// What the columns say, for a body of another version.
    fn columns_only(&self, row: &AnyRow) -> Result<Finding, StoreError> {
        let priority = usize::try_from(self.int(row, "priority")?).unwrap_or(0);
        Ok(Finding {
            id: FindingId::from_string(&self.text(row, "id")?).unwrap_or_default(),
            time_ns: u64::try_from(self.int(row, "time_us")?).unwrap_or(0).saturating_mul(1000),
            event_num: 0,
            cause: Cause::Rule { name: self.text(row, "rule")? },
            priority: finding::Priority::ALL.get(priority).copied().unwrap_or(Priority::Debug),
            source: self.text(row, "source")?.into(),
            message: self.text(row, "message")?,
            why: String::new(),
            advice: String::new(),
            tags: Vec::new(),
            fields: Vec::new(),
            event: self.text(row, "event")?.into(),
            lineage: Vec::new(),
            container: None,
            workload: self.text(row, "workload")?,
            login: None,
            coverage: None,
            fingerprint: u64::from_str_radix(&self.text(row, "fingerprint")?, 16).unwrap_or(0),
        })
    }
}
