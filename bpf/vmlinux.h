/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The parts of the kernel's types that the probes read. Members' order and offsets do not matter: the loader
 * relocates every access to the running kernel (CO-RE), which is what preserve_access_index asks for.
 */
#ifndef TIDEWATCH_VMLINUX_H
#define TIDEWATCH_VMLINUX_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

#define BPF_ANY 0
#define BPF_NOEXIST 1

/* Only asked whether the running kernel has them. */
enum bpf_func_id {
	BPF_FUNC_find_vma = 180,
};
#define BPF_RB_NO_WAKEUP 1

/* Since 6.2: says what a pointer points to, so that what it points to can be read by plain loads. */
extern void *bpf_rdonly_cast(const void *obj__ign, u32 btf_id__k) __attribute__((section(".ksyms"), weak));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

typedef struct {
	u64 val;
} kernel_cap_t;

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	unsigned long s_flags;
};

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	void *i_private;
	s64 i_mtime_sec;
	s64 i_ctime_sec;
	u32 i_mtime_nsec;
	u32 i_ctime_nsec;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

/* Before 6.11, and before 6.6. */
struct inode___v66 {
	struct timespec64 i_mtime;
	struct timespec64 __i_ctime;
};

struct inode___v61 {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
};

struct hlist_bl_node {
	void **pprev;
};

struct seqcount {
	unsigned int sequence;
};

struct seqcount_spinlock {
	struct seqcount seqcount;
};

struct dentry {
	struct seqcount_spinlock d_seq;
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	const char *mnt_devname;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	unsigned int f_flags;
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct ns_common {
	unsigned int inum;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct tty_driver {
	int major;
	int minor_start;
};

struct tty_struct {
	int index;
	struct tty_driver *driver;
};

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
	struct tty_struct *tty;
};

struct cred {
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

struct vm_area_struct {
	unsigned long vm_flags;
	void *anon_vma;
};

struct kernel_siginfo {
	int si_code;
};

struct file_system_type {
	const char *name;
};

struct fs_context {
	struct file_system_type *fs_type;
};

struct io_cmd_data {
	struct file *file;
};

struct io_kiocb {
	struct file *file;
	struct io_cmd_data cmd;
	u8 opcode;
	u64 flags;
	void *async_data;
};

struct filename {
	const char *name;
};

struct open_how___kernel {
	u64 flags;
	u64 mode;
};

struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how___kernel how;
};

struct io_unlink {
	int dfd;
	int flags;
	struct filename *filename;
};

struct io_rename {
	int old_dfd;
	int new_dfd;
	struct filename *oldpath;
	struct filename *newpath;
	int flags;
};

struct io_mkdir {
	int dfd;
	u16 mode;
	struct filename *filename;
};

struct io_link {
	int old_dfd;
	int new_dfd;
	struct filename *oldpath;
	struct filename *newpath;
	int flags;
};

struct io_socket {
	int domain;
	int type;
	int protocol;
};

struct io_connect {
	void *addr;
};

struct io_listen {
	int backlog;
};

struct io_sr_msg {
	void *buf;
	int len;
};

struct msghdr {
	void *msg_name;
};

struct io_async_msghdr {
	struct msghdr msg;
};

struct io_uring_cqe {
	s32 res;
};

struct thread_info {
	u32 status;
};

struct task_struct {
	unsigned int flags;
	struct thread_info thread_info;
	struct mm_struct *mm;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	u64 self_exec_id;
	const struct cred *cred;
	kuid_t loginuid;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
};

struct linux_binprm {
	const char *filename;
	const char *interp;
	const char *fdpath;
};

struct in6_addr {
	u8 s6_addr[16];
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	u8 sk_userlocks : 4;
	u16 sk_type;
	u16 sk_protocol;
	int sk_err;
	struct socket *sk_socket;
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	u64 bytes_received;
	u64 bytes_sent;
	u64 bytes_retrans;
	u32 segs_in;
	u32 segs_out;
	bool is_mptcp;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sockaddr_un {
	u16 sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bp, bx, r10, r9, r8, cx, dx, si, di, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
};
#endif

#pragma clang attribute pop

/* User space's structures, not relocated. */
struct sockaddr_any {
	u16 family;
	u16 port;
	u32 addr4;
	u8 addr6[16];
	u8 rest[88];
};

struct user_msghdr {
	void *name;
	int namelen;
	void *iov;
	unsigned long iovlen;
};

struct iovec {
	void *base;
	unsigned long len;
};

struct mount_attr {
	u64 set;
	u64 clear;
	u64 propagation;
	u64 userns_fd;
};

struct user_mmsghdr {
	struct user_msghdr msg;
	void *control;
	unsigned long controllen;
	int flags;
	int pad;
	u32 len;
};

struct open_how {
	u64 flags;
	u64 mode;
	u64 resolve;
};

#endif
