-- Times are microseconds since the epoch. The statements of the program are the same on both databases: only these
-- two folders differ. Names sort by their bytes here too, whatever the locale of the cluster is.
create table findings (
    id text collate "C" not null primary key,
    node text collate "C" not null,
    lane text collate "C" not null,
    seq bigint not null,
    time_us bigint not null,
    received_us bigint not null,
    priority bigint not null,
    rule text collate "C" not null,
    source text not null,
    event text not null,
    container_id text collate "C" not null,
    container_name text not null,
    image text not null,
    workload text not null,
    fingerprint text not null,
    message text not null,
    body text not null,
    size bigint not null
);
create index findings_time on findings (time_us, id);
create index findings_received on findings (received_us, id);
create index findings_rule on findings (rule, time_us);
create index findings_container on findings (container_id, time_us);

create table cursors (
    node text collate "C" not null,
    lane text collate "C" not null,
    seq bigint not null,
    primary key (node, lane)
);

create table totals (
    kind text collate "C" not null primary key,
    row_count bigint not null,
    byte_count bigint not null
);
insert into totals (kind, row_count, byte_count) values ('findings', 0, 0), ('audit', 0, 0);

create table nodes (
    id text collate "C" not null primary key,
    hostname text not null,
    boot_id text not null,
    version text not null,
    first_seen bigint not null,
    last_seen bigint not null
);

create table containers (
    id text collate "C" not null primary key,
    node text collate "C" not null,
    name text not null,
    image text not null,
    image_id text not null,
    digest text collate "C" not null,
    workload text not null,
    body text not null,
    first_seen bigint not null,
    last_seen bigint not null,
    gone bigint not null,
    size bigint not null
);
create index containers_seen on containers (last_seen, id);
create index containers_node on containers (node, gone);

create table images (
    id text collate "C" not null primary key,
    name text not null,
    digest text collate "C" not null,
    first_seen bigint not null,
    last_seen bigint not null,
    size bigint not null
);
create index images_seen on images (last_seen, id);

create table workloads (
    id text collate "C" not null primary key,
    namespace text not null,
    kind text collate "C" not null,
    name text not null,
    container text not null,
    image text not null,
    first_seen bigint not null,
    last_seen bigint not null,
    size bigint not null
);
create index workloads_seen on workloads (last_seen, id);

create table rule_files (
    id text collate "C" not null primary key,
    node text collate "C" not null,
    name text not null,
    digest text collate "C" not null,
    first_seen bigint not null,
    last_seen bigint not null,
    in_force bigint not null,
    size bigint not null
);
create index rule_files_seen on rule_files (last_seen, id);

create table audit (
    id text collate "C" not null primary key,
    time_us bigint not null,
    actor text not null,
    action text not null,
    target text not null,
    detail text not null,
    size bigint not null
);
create index audit_time on audit (time_us, id);
