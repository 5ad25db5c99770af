/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Every map, with the reason for its kind. */
#ifndef TIDEWATCH_MAPS_H
#define TIDEWATCH_MAPS_H

/* Set by user space before load; read as constants, so that the verifier drops what is off. */
const volatile struct tw_config config SEC(".rodata.config");

/* One ring a lane: what a container can repeat cheaply never takes the room of forks and execs. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ring_life SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring_priv SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring_bulk SEC(".maps");

/* Counters by kind; per CPU, so that counting costs no shared cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct tw_count);
	__uint(max_entries, TW_KINDS);
} counts SEC(".maps");

/*
 * What was missed or folded, by cgroup: touched only when something is. A plain hash, since one that drops the least recently
 * used would drop counts with it; user space reads it and takes out what has been quiet for long.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u64);
	__type(value, struct tw_missed);
	__uint(max_entries, 4096);
} missed SEC(".maps");

/* The same of cgroups for which there was no room, so that sums stay exact. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct tw_missed);
	__uint(max_entries, 1);
} missed_rest SEC(".maps");

/* Everything that was missed, per CPU: whoever reads looks here first whether there is something to read. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} misses SEC(".maps");

/* What the agent wants a sample of only; an array, since it changes while programs run. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct tw_sampling);
	__uint(max_entries, 1);
} sampling SEC(".maps");

/* Insertions and removals by table, per CPU: the kernel tells nobody how full a hash is, or what it dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct tw_table_use);
	__uint(max_entries, TW_TABLES);
} table_uses SEC(".maps");

/* Longest name, with its NUL, of an open that can stand for others. */
#define FOLD_RAW 128
#define TW_FOLDS 256 /* known opens of a CPU: a power of two */

/* A path as numbers: it is compared, never followed. */
struct place {
	u64 mnt;
	u64 dentry;
};

/* All that the record of an open tells but time, CPU and descriptor, and what its path hangs on. No padding. */
struct fold_key {
	u64 start;
	u64 cgroup;
	u64 caps;
	u64 execs; /* executions so far */
	u64 namespaces;
	u64 moves; /* as of then: see `moves` */
	u64 ino;
	struct place root;
	struct place at; /* the file, or what a name that led nowhere is relative to */
	u64 comm[TW_COMM / 8];
	u32 pid;
	u32 tid;
	u32 uid;
	u32 gid;
	u32 flags;
	u32 mode;
	s32 dirfd;
	s32 error;
	u32 seq;
	u32 call; /* kind, and whether it is a 32-bit call */
	u64 raw[FOLD_RAW / 8];
};

struct fold {
	u64 state; /* high half: version, odd while somebody writes; low half: when it was told, 0 for not yet */
	u64 folded; /* since then */
	struct fold_key key;
};

/*
 * Opens that were told lately, by hash. An array, so that a newer one takes the place of an older and nothing has to be
 * taken out; per CPU, so that looking costs no lock and no shared cache line (counting does: see miss_in). On another CPU
 * it is told once more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct fold);
	__uint(max_entries, TW_FOLDS);
} folds SEC(".maps");

/* Calls that changed the paths of what is there, on the whole host: an array, read by all, seldom written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} moves SEC(".maps");

#define TW_TAIL_MAX 16384

/* A walk from a file up to the root. Here it is memory, where pointers are numbers to the verifier: less for it to tell apart. */
struct walk {
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct dentry *root_dentry;
	struct vfsmount *root_mnt;
	u32 pos; /* start of the path so far, which grows towards the front */
	u32 root_pos; /* start of what lies below the caller's root; 0: the root was not met */
	u32 whole; /* the walk came to its end */
	u32 pad;
};

/*
 * Where a record is put together. A record can be longer than the stack, and a ring reserves only sizes that are
 * known beforehand. Three per CPU: a probe may be preempted by another task's probe on kernels that run them so.
 */
struct scratch {
	u32 busy;
	u32 off; /* end of the record so far */
	u32 lane;
	u32 pad;
	struct walk walk;
	u8 record[TW_TAIL_MAX + TW_PATH_MAX + 256];
	u8 path[TW_PATH_MAX + 256];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct scratch);
	__uint(max_entries, 3);
} scratches SEC(".maps");

struct bucket {
	u64 filled_at;
	u64 tokens;
};

/* Budget of privileged calls by cgroup. A hash, since cgroups come and go; least recently used first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct bucket);
	__uint(max_entries, 4096);
} buckets SEC(".maps");

struct signalled {
	u32 target;
	u32 targets;
};

/*
 * Whom the signal went to that a call is sending now, by thread: from where it is sent to the end of the call. LRU,
 * since signals are also sent by calls that are not watched, and nobody takes those out.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct signalled);
	__uint(max_entries, 1024);
} signals SEC(".maps");

struct ring_names {
	char first[TW_RING_NAME];
	char second[TW_RING_NAME];
};

/*
 * Names in requests of io_uring, from where they are taken in to the answer, by address of the kernel's request. LRU: a
 * request that is never answered must not stay.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct ring_names);
	__uint(max_entries, 1024);
} ring_requests SEC(".maps");

struct ring_send {
	u64 req; /* address of the request */
	u64 buf;
	u64 len;
	u64 addr;
	u64 kernel_addr; /* the kernel's copy of the address */
	u64 kind; /* of the call that it stands for */
};

/*
 * What a thread sends through a ring, by thread: from the request to the socket, or to the answer if it never got there.
 * LRU, for another thread may go on with it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct ring_send);
	__uint(max_entries, 1024);
} ring_sends SEC(".maps");

struct peer {
	u64 addr;
	u64 at;
};

/*
 * Sockets of interest, by address of the kernel's socket: new TCP connections whose first bytes are wanted
 * (addr 0), and the last peer of datagram sockets. A hash, since socket storage needs kernels that we do not.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct peer);
	__uint(max_entries, 16384);
} peers SEC(".maps");

struct asked {
	u8 addr[16];
	u32 family;
	u32 port;
};

/*
 * Name servers that were asked through sockets without a peer, by address of the kernel's socket: what comes back
 * does not tell where from before the call ends. A hash, as above.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct asked);
	__uint(max_entries, 4096);
} name_servers SEC(".maps");

/* Whose a connection or a datagram socket is, and what went over the latter. */
struct owner {
	u64 started; /* ns since boot */
	u64 start;
	u64 cgroup;
	u64 told_at;
	u64 used_at;
	u64 bytes_out;
	u64 bytes_in;
	u64 packets_out;
	u64 packets_in;
	u64 sk;
	u32 pid;
	u32 tid;
	u32 uid;
	u32 gid;
	u16 attrs;
	u16 family;
	u16 type;
	u16 proto;
	u16 lport;
	u16 rport;
	u32 pad;
	u8 laddr[16]; /* of datagrams, whose socket may be gone when they are told */
	u8 raddr[16]; /* the first peer */
	char comm[TW_COMM];
};

/*
 * Open connections, by address of the kernel's socket: when one ends, nobody's call is under way. A hash that forgets
 * the least recently used, so that what ended unseen makes room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct owner);
	__uint(max_entries, 16384);
} connections SEC(".maps");

/* A datagram socket; no hook tells its end, and another may follow in the same memory: that has another port. */
struct datagram_key {
	u64 sk;
	u64 port;
};

/* The same of datagram sockets, a table of their own: they come by the thousand. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct datagram_key);
	__type(value, struct owner);
	__uint(max_entries, 8192);
} datagrams SEC(".maps");

#endif
