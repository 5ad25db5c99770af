/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The wire contract between the kernel side and user space: every record is a header, one body, and a tail of
 * bytes that the body's tw_str members point into. crates/model/src/raw.rs mirrors it; a test compares the two.
 * All numbers are in host byte order except ports, which are host order as well; addresses are network order.
 */
#ifndef TIDEWATCH_H
#define TIDEWATCH_H

#define TW_COMM 16
#define TW_PATH_MAX 4096
#define TW_ARGS_MAX 4096
#define TW_ENV_MAX 4096
/* Longest name that is kept of a request of io_uring, with its NUL. */
#define TW_RING_NAME 512
/* Operations of io_uring that the table has room for. */
#define TW_RING_OPS 64
#define TW_DATA_MAX 256
#define TW_FIRST_MAX 1024 /* of a new connection: an HTTP request with its host */
#define TW_HELLO_MAX 2048 /* of a TLS hello: key shares of today take 1,200 bytes */
#define TW_DNS_MAX 1232 /* what resolvers let datagrams grow to (DNS flag day 2020) */

/* Lanes: one ring each. */
enum tw_lane { TW_LANE_LIFE, TW_LANE_PRIV, TW_LANE_BULK, TW_LANES };

/* Bodies. */
enum tw_shape { TW_SHAPE_FORK, TW_SHAPE_EXEC, TW_SHAPE_EXIT, TW_SHAPE_FILE, TW_SHAPE_SOCK, TW_SHAPE_CALL };

/* Header flags. */
#define TW_F_COMPAT 1 /* a 32-bit call on a 64-bit kernel */
#define TW_F_TRUNCATED 2 /* a string was longer than its limit */
#define TW_F_RING 4 /* asked for through io_uring */
#define TW_F_PRESUMED 8 /* the result is not told: the caller wanted no answer unless the request fails */

/* A piece of the tail: offset from the start of the record, length without any final NUL. */
struct tw_str {
	__u16 off;
	__u16 len;
};

struct tw_hdr {
	__u16 size; /* whole record */
	__u16 kind; /* row of the event table in user space */
	__u16 flags;
	__u16 cpu;
	__u64 time; /* ns since boot */
	__u64 start; /* start of the thread group leader, ns since boot */
	__u64 cgroup; /* id in the unified hierarchy */
	__u32 pid;
	__u32 tid;
	__u32 uid; /* effective */
	__u32 gid;
	__s64 ret; /* what the call returned */
	__u64 caps; /* effective capabilities */
	char comm[TW_COMM];
};

struct tw_fork {
	struct tw_hdr hdr; /* of the caller */
	__u64 child_start;
	__u64 parent_start; /* of the child's parent: differs from the caller with CLONE_PARENT */
	__u32 child_pid;
	__u32 parent_pid;
	__u32 child_vpid;
	__u32 child_uid; /* effective */
	__u64 child_caps; /* effective */
	__u64 flags; /* of clone, as the kernel took them */
};

/* Executable file attributes, and attributes of opened files. */
#define TW_A_UPPER 1 /* overlay upper layer */
#define TW_A_LOWER 2 /* overlay lower layer */
#define TW_A_MEMFD 4
#define TW_A_WRITABLE 8 /* by the caller */
#define TW_A_CREATED 16 /* by this open */
#define TW_A_DIR 32
#define TW_A_REG 64
#define TW_A_ARGS_TRUNCATED 128
#define TW_A_ENV_TRUNCATED 256
#define TW_A_DELETED 512 /* its name was removed */

struct tw_exec {
	struct tw_hdr hdr;
	__u64 parent_start;
	__u64 cap_effective;
	__u64 cap_permitted;
	__u64 cap_inheritable;
	__u64 ino;
	__u64 ctime;
	__u64 mtime;
	__u32 dev;
	__u32 mode;
	__u32 attrs;
	__u32 ppid;
	__u32 vpid;
	__u32 pgid;
	__u32 sid;
	__u32 vpgid;
	__u32 tty;
	__u32 loginuid;
	__u32 ns_mnt;
	__u32 ns_pid;
	__u32 ns_net;
	__u32 ns_user;
	__u32 ns_uts;
	__u32 ns_ipc;
	__u32 ns_cgroup;
	__u32 pad;
	struct tw_str exepath; /* resolved */
	struct tw_str filename; /* as given to execve; for a failed call all there is */
	struct tw_str interp; /* interpreter of a script, else equal to filename */
	struct tw_str cwd;
	struct tw_str args; /* NUL-separated */
	struct tw_str env; /* NUL-separated */
	struct tw_str cgroup_name; /* last component of the cgroup's path */
	struct tw_str pad_str;
};

struct tw_exit {
	struct tw_hdr hdr;
	__u32 code; /* as for wait(2): exit status << 8 | signal */
	__u32 pad;
};

struct tw_file {
	struct tw_hdr hdr;
	__u64 ino;
	__s32 fd; /* the descriptor the call got or returned, -1 if none */
	__s32 dirfd;
	__s32 dirfd2;
	__u32 flags;
	__u32 mode;
	__u32 dev;
	__u32 attrs;
	__u32 uid; /* of an open: how many like it were counted, not told, since the last one that was */
	__u32 gid;
	struct tw_str root; /* what lies before path, where the caller's root is not that of its mount namespace */
	struct tw_str path; /* resolved, if the call left an object */
	struct tw_str raw; /* as the caller wrote it */
	struct tw_str base; /* directory that raw is relative to, empty if raw is absolute */
	struct tw_str raw2;
	struct tw_str base2;
	struct tw_str extra; /* symlink target, mount source */
};

#define TW_S_CLIENT 1
#define TW_S_SERVER 2
#define TW_S_CONNECTED 4
#define TW_S_FILE 8 /* not a socket: path names it (dup) */
#define TW_S_FIRST 16 /* first bytes of a new connection */
#define TW_S_RECEIVED 32 /* the data was received */

struct tw_sock {
	struct tw_hdr hdr;
	__u64 size; /* bytes asked to send */
	__s32 fd;
	__s32 oldfd; /* dup */
	__u16 family;
	__u16 type;
	__u16 proto;
	__u16 lport;
	__u16 rport;
	__u16 attrs;
	__u32 backlog;
	__u8 laddr[16];
	__u8 raddr[16];
	struct tw_str path; /* bound path of the unix peer, or of the file */
	struct tw_str raw; /* unix path as the caller wrote it */
	struct tw_str data; /* first bytes */
	struct tw_str pad_str;
};

/* What `data` of a flow holds. */
struct tw_flow {
	__u64 started; /* ns since boot */
	__u64 bytes_out;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 packets_in;
	__u32 state; /* enum tw_flow_state */
	__u32 pad;
};

enum tw_flow_state {
	TW_FLOW_OPEN, /* goes on */
	TW_FLOW_CLOSED, /* both ends said that they are done */
	TW_FLOW_RESET, /* it ended otherwise */
	TW_FLOW_REFUSED, /* it never began */
	TW_FLOW_IDLE, /* datagrams: none for a while */
};

/* What `data` holds of a socket that begins or ends to listen, or is bound. */
struct tw_listener {
	__u64 ino; /* number of the socket, as descriptors show it */
	__u32 netns;
	__u32 chosen; /* whoever bound it named the port */
};

struct tw_call {
	struct tw_hdr hdr;
	__u64 args[6];
	__u64 cap_effective; /* after the call */
	__u64 cap_permitted;
	__u64 cap_inheritable;
	__u32 target; /* number of the process that the call is about, if a kernel object told it */
	__u32 targets; /* processes that were signalled */
	struct tw_str text;
	struct tw_str text2;
	struct tw_str text3; /* type of the file system */
	struct tw_str pad_str;
};

/* How a call is handled; 0 is "not of interest". The order is that of the tail call table. */
enum tw_handler {
	TW_H_NONE,
	TW_H_OPEN,
	TW_H_PATH, /* calls with one or two paths, see enum tw_path_args */
	TW_H_SOCK, /* connect, accept, bind, listen */
	TW_H_DUP,
	TW_H_CALL, /* arguments as they are */
	TW_H_EXEC, /* a failed exec */
	TW_H_SIGNAL, /* kill and its like */
	TW_H_MEMORY, /* mmap and mprotect: only what becomes executable and was or is writable */
	TW_H_PRCTL, /* only options that matter */
	TW_H_FSCONTEXT, /* fsconfig and fsmount: a file system in the making */
	TW_H_SEND, /* where the kernel has no tracepoint for what is sent */
	TW_H_RECEIVE, /* the same for what is received */
	TW_H_SOCKETCALL, /* calls on sockets of 32-bit programs, in one number */
	TW_HANDLERS,
};

/*
 * Where a call of TW_H_OPEN or TW_H_PATH has its arguments: each member is an argument's number from 1, 0 for none.
 * User space fills one per kind, so that the handler needs no list of calls.
 */
struct tw_args {
	__u8 dirfd;
	__u8 path;
	__u8 dirfd2;
	__u8 path2; /* second path or text, or type of a file system */
	__u8 fd; /* the object, if it is given by descriptor */
	__u8 flags;
	__u8 mode;
	__u8 uid;
	__u8 gid;
	__u8 extra; /* text: link target, mount source, module arguments */
	__u8 implied; /* TW_CREAT and its neighbours */
	__u8 size; /* bytes asked to be sent */
	__u8 addr; /* socket address */
	__u8 backlog;
	__u8 oldfd;
	__u8 budget; /* TW_B_FREQUENT and its neighbour */
};

#define TW_CREAT 1 /* flags are those of creat */
#define TW_OPEN_HOW 2 /* flags lie in struct open_how */
#define TW_CWD 4 /* the object is the working directory */
#define TW_TARGET 8 /* the target is the process behind the pidfd `fd` */
#define TW_TARGET_RESULT 16 /* the target is the process behind the pidfd that the call returned */
#define TW_MOUNT_ATTR 32 /* argument 4 is a struct mount_attr */
#define TW_MOVES 64 /* it changes the paths of what is there */

/* Privileged calls that peaceful programs make often have a budget of their own, lest they eat that of the others. */
#define TW_B_FREQUENT 1
/* Calls that change credentials: beyond the budget, those that succeed go to the bulk lane, for who is who hangs on them. */
#define TW_B_IDENTITY 2
#define TW_B_USER_NAMESPACE 4 /* the same, if the first argument has CLONE_NEWUSER */

#define TW_CALLS 512
#define TW_SOCKETCALLS 24
#define TW_KINDS 128

/* Classes of the coverage ledger; user space says which kind is in which. */
enum tw_class { TW_C_LIFE, TW_C_PRIV, TW_C_FILE, TW_C_NET, TW_C_OTHER, TW_CLASSES };

/* Why an event is not in a ring. */
enum tw_miss {
	TW_M_RING, /* the ring was full */
	TW_M_SCRATCH, /* no scratch buffer was free */
	TW_M_FOLDED, /* over the cgroup's budget of privileged calls */
	TW_M_REPEATED, /* the same open, or a datagram to the same peer, again: what it would tell was told */
	TW_M_SAMPLED, /* the agent asked for a sample only, see struct tw_sampling */
	TW_MISSES,
};

/* What was missed of one cgroup. */
struct tw_missed {
	__u64 n[TW_CLASSES][TW_MISSES];
};

/* Of what only one event in so many is wanted; 0: all are. User space changes it while programs run. */
struct tw_sampling {
	__u32 failed_opens; /* read-only opens that failed */
	__u32 read_opens; /* read-only opens */
};

/* Tables whose entries the kernel half makes, for the counter of their insertions. */
enum tw_table {
	TW_T_BUCKETS,
	TW_T_PEERS,
	TW_T_MISSED,
	TW_T_NAME_SERVERS,
	TW_T_CONNECTIONS,
	TW_T_DATAGRAMS,
	TW_T_RING_SENDS,
	TW_T_FOLDS,
	TW_TABLES
};

/* What was done to a table, per CPU. */
struct tw_table_use {
	__u64 inserted;
	__u64 removed;
	__u64 refused; /* there was no room */
};

/* Filled by user space before load. */
struct tw_config {
	__u32 self; /* the agent's own process, not watched but for its life */
	__u16 kind_clone;
	__u16 kind_execve;
	__u16 kind_exit;
	__u16 kind_sendto;
	__u16 kind_sendmsg;
	__u16 kind_write;
	__u16 nr_write;
	__u16 nr_writev;
	__u16 nr_sendto;
	__u16 nr_sendmsg;
	__u16 nr_sendmmsg;
	__u16 kind_execveat;
	__u16 kind_dns;
	__u16 nr_read;
	__u16 nr_readv;
	__u16 nr_recvfrom;
	__u16 nr_recvmsg;
	__u16 nr_recvmmsg;
	__u16 kind_flow;
	__u16 kind_listen_end;
	__u16 by_call; /* sends and receives are told at the exits of their calls */
	__u16 pad2;
	__u32 bucket_rate; /* privileged calls a second and cgroup */
	__u32 bucket_burst;
	__u32 flow_tell_ms; /* a flow that goes on is told so often */
	__u32 fold_opens; /* opens that only repeat what was told are counted, not told */
	__u32 flow_idle_ms; /* without a datagram for so long, a flow of them is over */
	__u8 handler[TW_CALLS]; /* enum tw_handler, by call number */
	__u8 kind[TW_CALLS]; /* event kind, by call number */
	__u8 handler32[TW_CALLS]; /* the same for 32-bit calls */
	__u8 kind32[TW_CALLS];
	__u8 lane[TW_KINDS]; /* enum tw_lane, by kind */
	__u8 class[TW_KINDS]; /* enum tw_class, by kind */
	struct tw_args args[TW_KINDS];
	__u8 ring_kind[TW_RING_OPS]; /* event kind, by operation of io_uring */
	__u16 nr_ring; /* io_uring_enter */
	__u16 ring_cqe; /* the tracepoint of an answer gives the entry of the queue (since 6.15), not its parts */
	__u8 socketcall[TW_SOCKETCALLS]; /* event kind, by what socketcall is asked for */
	__u16 nr32_socketcall; /* 32-bit calls that send and receive */
	__u16 nr32_write;
	__u16 nr32_sendto;
	__u16 nr32_sendmsg;
	__u16 nr32_read;
	__u16 nr32_recvfrom;
	__u16 nr32_recvmsg;
	__u16 pad;
};

/* Counters, one per kind and CPU. */
struct tw_count {
	__u64 sent; /* records written to a ring */
	__u64 missed[TW_MISSES];
};

#endif
