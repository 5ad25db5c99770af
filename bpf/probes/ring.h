/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Calls that are made through a ring of io_uring: no system call shows them. A request is seen when it is taken in, with
 * the names that the kernel copied, and when it is answered, with its result. Linux 6.0 and later.
 */

#define O_LARGEFILE 0100000
#define REQ_F_CQE_SKIP (1u << 6)
#define OP_SENDMSG 9
#define OP_ACCEPT 13
#define OP_CONNECT 16
#define OP_OPENAT 18
#define OP_SEND 26
#define OP_OPENAT2 28
#define OP_RENAMEAT 35
#define OP_UNLINKAT 36
#define OP_MKDIRAT 37
#define OP_SYMLINKAT 38
#define OP_LINKAT 39
#define OP_SOCKET 45
#define OP_SEND_ZC 47
#define OP_SENDMSG_ZC 48
#define OP_BIND 56
#define OP_LISTEN 57

/* What the request asks for: its layout goes by the operation. */
static __always_inline void *command(struct io_kiocb *req)
{
	return (void *)req + bpf_core_field_offset(struct io_kiocb, cmd);
}

/* Names are given back by the kernel before the answer: they are kept from the beginning. */
static __always_inline void keep_names(struct io_kiocb *req, u8 op)
{
	void *cmd = command(req);
	const char *first = 0, *second = 0;
	struct ring_names *names;
	struct scratch *scratch;
	u64 key = (u64)req;
	u32 slot = 0;

	if (op == OP_OPENAT || op == OP_OPENAT2)
		first = BPF_CORE_READ((struct io_open *)cmd, filename, name);
	else if (op == OP_UNLINKAT)
		first = BPF_CORE_READ((struct io_unlink *)cmd, filename, name);
	else if (op == OP_MKDIRAT)
		first = BPF_CORE_READ((struct io_mkdir *)cmd, filename, name);
	else if (op == OP_RENAMEAT) {
		first = BPF_CORE_READ((struct io_rename *)cmd, oldpath, name);
		second = BPF_CORE_READ((struct io_rename *)cmd, newpath, name);
	} else if (op == OP_LINKAT || op == OP_SYMLINKAT) {
		first = BPF_CORE_READ((struct io_link *)cmd, oldpath, name);
		second = BPF_CORE_READ((struct io_link *)cmd, newpath, name);
	} else {
		return;
	}
	scratch = claim(&slot);
	if (!scratch)
		return;
	names = (void *)scratch->record;
	names->first[0] = names->second[0] = 0;
	bpf_probe_read_kernel_str(names->first, sizeof(names->first), first);
	if (second)
		bpf_probe_read_kernel_str(names->second, sizeof(names->second), second);
	bpf_map_update_elem(&ring_requests, &key, names, BPF_ANY);
	drop(scratch);
}

/* Appends a name that was kept; cut ones are marked. */
static __always_inline void add_kept(struct scratch *scratch, struct tw_str *str, char *name)
{
	add_kernel_text(scratch, str, name);
	if (str->len >= TW_RING_NAME - 1)
		((struct tw_hdr *)scratch->record)->flags |= TW_F_TRUNCATED;
}

static __always_inline void tell_ring_file(struct scratch *scratch, u32 slot, struct io_kiocb *req, u8 op, s64 ret,
					   bool presumed)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct tw_file *out = (void *)scratch->record;
	struct ring_names *names;
	void *cmd = command(req);
	u64 key = (u64)req;
	struct inode *inode;
	struct file *file;
	bool fixed = false;

	out->fd = -1;
	out->dirfd = out->dirfd2 = AT_FDCWD;
	if (op == OP_OPENAT || op == OP_OPENAT2) {
		out->dirfd = BPF_CORE_READ((struct io_open *)cmd, dfd);
		out->flags = BPF_CORE_READ((struct io_open *)cmd, how.flags) & ~O_LARGEFILE;
		out->mode = BPF_CORE_READ((struct io_open *)cmd, how.mode);
		/* Into the ring's own table: the result is no descriptor. */
		fixed = BPF_CORE_READ((struct io_open *)cmd, file_slot);
	} else if (op == OP_UNLINKAT) {
		out->dirfd = BPF_CORE_READ((struct io_unlink *)cmd, dfd);
		out->flags = BPF_CORE_READ((struct io_unlink *)cmd, flags);
	} else if (op == OP_MKDIRAT) {
		out->dirfd = BPF_CORE_READ((struct io_mkdir *)cmd, dfd);
		out->mode = BPF_CORE_READ((struct io_mkdir *)cmd, mode);
	} else if (op == OP_RENAMEAT) {
		out->dirfd = BPF_CORE_READ((struct io_rename *)cmd, old_dfd);
		out->dirfd2 = BPF_CORE_READ((struct io_rename *)cmd, new_dfd);
		out->flags = BPF_CORE_READ((struct io_rename *)cmd, flags);
	} else {
		out->dirfd = BPF_CORE_READ((struct io_link *)cmd, old_dfd);
		out->dirfd2 = BPF_CORE_READ((struct io_link *)cmd, new_dfd);
		out->flags = BPF_CORE_READ((struct io_link *)cmd, flags);
	}
	names = bpf_map_lookup_elem(&ring_requests, &key);
	if (names && op == OP_SYMLINKAT) {
		/* The first is a text, not a path. */
		out->dirfd = out->dirfd2;
		add_kept(scratch, &out->extra, names->first);
		add_kept(scratch, &out->raw, names->second);
	} else if (names) {
		add_kept(scratch, &out->raw, names->first);
		if (names->second[0])
			add_kept(scratch, &out->raw2, names->second);
	}
	if (names && !presumed)
		bpf_map_delete_elem(&ring_requests, &key);
	file = (op == OP_OPENAT || op == OP_OPENAT2) && ret >= 0 && !fixed && !presumed ? file_of(task, ret) : 0;
	if (file) {
		inode = BPF_CORE_READ(file, f_inode);
		out->ino = BPF_CORE_READ(inode, i_ino);
		out->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		out->attrs = file_attrs(file);
		if (BPF_CORE_READ(file, f_mode) & FMODE_CREATED)
			out->attrs |= TW_A_CREATED;
		add_rooted_path(scratch, slot, &out->path, &out->root, (struct path *)&file->f_path);
		return;
	}
	add_base(scratch, slot, &out->base, &out->raw, out->dirfd);
	if (out->raw2.len)
		add_base(scratch, slot, &out->base2, &out->raw2, out->dirfd2);
}

/* The socket that a request works on, or null. */
static __always_inline struct sock *ring_sock(struct io_kiocb *req)
{
	struct file *file = BPF_CORE_READ(req, file);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline bool tell_ring_sock(struct scratch *scratch, struct io_kiocb *req, u8 op, s64 ret, bool presumed)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct peer fresh = { .at = bpf_ktime_get_boot_ns() };
	struct tw_sock *out = (void *)scratch->record;
	struct sock *sk = op == OP_ACCEPT ? (presumed ? 0 : sock_of(task, ret)) : ring_sock(req);
	const void *addr;
	u16 family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	u64 key = (u64)sk;

	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return false;
	out->fd = op == OP_ACCEPT ? ret : -1;
	out->oldfd = -1;
	fill_sock(out, sk);
	if (op == OP_ACCEPT) {
		out->attrs |= TW_S_SERVER;
		if (out->proto == IPPROTO_TCP)
			note_connection(sk, TW_S_SERVER);
	}
	if (op == OP_LISTEN)
		out->backlog = BPF_CORE_READ((struct io_listen *)command(req), backlog);
	if (op == OP_CONNECT) {
		addr = BPF_CORE_READ((struct io_connect *)command(req), addr);
		out->attrs |= TW_S_CLIENT;
		if (!out->rport)
			fill_remote(out, addr);
		if (out->proto == IPPROTO_TCP && (ret == 0 || ret == -EINPROGRESS)) {
			put(&peers, TW_T_PEERS, &key, &fresh);
			note_connection(sk, TW_S_CLIENT);
		}
		if (family == AF_UNIX)
			add_user_text(scratch, &out->raw, addr + 2);
	}
	if (family == AF_UNIX)
		add_unix_peer(scratch, out, sk);
	else if ((op == OP_LISTEN || op == OP_BIND) && !ret)
		add_listener(scratch, out, sk);
	return true;
}

static __always_inline void tell_ring(struct io_kiocb *req, u8 op, u8 kind, s64 ret, bool presumed)
{
	struct scratch *scratch;
	struct tw_call *call;
	bool told = true;
	u32 slot = 0;
	u32 size = sizeof(struct tw_file);

	if (op == OP_CONNECT || op == OP_ACCEPT || op == OP_BIND || op == OP_LISTEN)
		size = sizeof(struct tw_sock);
	else if (op == OP_SOCKET)
		size = sizeof(struct tw_call);
	if (op == OP_ACCEPT && ret < 0)
		return; /* nothing was accepted */
	paths_moved(&config.args[kind & (TW_KINDS - 1)], ret);
	scratch = begin(kind, ret, size, &slot);
	if (!scratch)
		return;
	((struct tw_hdr *)scratch->record)->flags |= TW_F_RING | (presumed ? TW_F_PRESUMED : 0);
	if (size == sizeof(struct tw_sock)) {
		told = tell_ring_sock(scratch, req, op, ret, presumed);
	} else if (op == OP_SOCKET) {
		call = (void *)scratch->record;
		call->args[0] = BPF_CORE_READ((struct io_socket *)command(req), domain);
		call->args[1] = BPF_CORE_READ((struct io_socket *)command(req), type);
		call->args[2] = BPF_CORE_READ((struct io_socket *)command(req), protocol);
	} else {
		tell_ring_file(scratch, slot, req, op, ret, presumed);
	}
	if (told)
		submit(scratch);
	else
		drop(scratch);
}

/* What a thread is sending through its ring: from here to the socket, in the same thread unless the ring waits. */
static __always_inline void keep_sending(struct io_kiocb *req, u8 op, u8 kind)
{
	struct io_sr_msg *cmd = command(req);
	struct io_async_msghdr *async;
	u64 key = bpf_get_current_pid_tgid();
	struct user_msghdr msg = {};
	struct ring_send send = { .req = (u64)req, .kind = kind };
	struct iovec iov = {};

	if (op == OP_SENDMSG || op == OP_SENDMSG_ZC) {
		if (bpf_probe_read_user(&msg, sizeof(msg), BPF_CORE_READ(cmd, buf)))
			return;
		send.addr = (u64)msg.name;
		if (msg.iov && !bpf_probe_read_user(&iov, sizeof(iov), msg.iov)) {
			send.buf = (u64)iov.base;
			send.len = iov.len;
		}
	} else {
		send.buf = (u64)BPF_CORE_READ(cmd, buf);
		send.len = BPF_CORE_READ(cmd, len);
		async = BPF_CORE_READ(req, async_data);
		if (async)
			send.kernel_addr = (u64)BPF_CORE_READ(async, msg.msg_name);
	}
	put(&ring_sends, TW_T_RING_SENDS, &key, &send);
}

/* It was answered, and the socket did not ask for it. */
static __always_inline void forget_sending(struct io_kiocb *req)
{
	u64 key = bpf_get_current_pid_tgid();
	struct ring_send *send = bpf_map_lookup_elem(&ring_sends, &key);

	if (send && send->req == (u64)req)
		take_out(&ring_sends, TW_T_RING_SENDS, &key);
}

static __always_inline bool is_sending(u8 op)
{
	return op == OP_SEND || op == OP_SENDMSG || op == OP_SEND_ZC || op == OP_SENDMSG_ZC;
}

SEC("tp_btf/io_uring_submit_req")
int on_ring_submit(trace_args *ctx)
{
	struct io_kiocb *req = (void *)ctx[0];
	u8 op = BPF_CORE_READ(req, opcode), kind;

	if (op >= TW_RING_OPS)
		return 0;
	kind = config.ring_kind[op];
	if (!kind || bpf_get_current_task_btf()->tgid == config.self)
		return 0;
	if (is_sending(op)) {
		keep_sending(req, op, kind);
		return 0;
	}
	keep_names(req, op);
	/* No answer is wanted unless it fails: the only time to tell is now. */
	if (BPF_CORE_READ(req, flags) & REQ_F_CQE_SKIP)
		tell_ring(req, op, kind, 0, true);
	return 0;
}

SEC("tp_btf/io_uring_complete")
int on_ring_complete(trace_args *ctx)
{
	struct io_kiocb *req = (void *)ctx[1];
	u8 op, kind;
	s32 ret;

	if (!req)
		return 0; /* one more answer to a request that was told */
	op = BPF_CORE_READ(req, opcode);
	if (op >= TW_RING_OPS)
		return 0;
	kind = config.ring_kind[op];
	if (!kind || bpf_get_current_task_btf()->tgid == config.self)
		return 0;
	if (is_sending(op)) {
		forget_sending(req);
		return 0;
	}
	if (config.ring_cqe)
		ret = BPF_CORE_READ((struct io_uring_cqe *)ctx[2], res);
	else
		ret = ctx[3];
	tell_ring(req, op, kind, ret, false);
	return 0;
}
