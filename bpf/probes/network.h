/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls on sockets, and dup onto the standard descriptors. */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define EINPROGRESS 115

static __always_inline void fill_sock(struct tw_sock *out, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u32 addr;

	out->family = family;
	out->type = BPF_CORE_READ(sk, sk_type);
	out->proto = BPF_CORE_READ(sk, sk_protocol);
	if (family == AF_INET) {
		addr = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		__builtin_memcpy(out->laddr, &addr, sizeof(addr));
		addr = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		__builtin_memcpy(out->raddr, &addr, sizeof(addr));
	} else if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&out->laddr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&out->raddr, sk, __sk_common.skc_v6_daddr);
	} else {
		return;
	}
	out->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	out->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (out->rport && (out->proto != IPPROTO_TCP || BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED))
		out->attrs |= TW_S_CONNECTED;
}

static __always_inline void take_remote(struct tw_sock *out, struct sockaddr_any *any)
{
	if (any->family == AF_INET) {
		out->family = AF_INET;
		__builtin_memcpy(out->raddr, &any->addr4, 4);
	} else if (any->family == AF_INET6) {
		/* struct sockaddr_in6 has its address behind the flow label, which lies where IPv4's address does. */
		out->family = AF_INET6;
		__builtin_memcpy(out->raddr, any->addr6, 16);
	} else {
		return;
	}
	out->rport = bpf_ntohs(any->port);
}

/* The remote end as the caller wrote it, where the socket does not hold it (failed calls, datagrams). */
static __always_inline void fill_remote(struct tw_sock *out, const void *addr)
{
	struct sockaddr_any any = {};

	if (addr && !bpf_probe_read_user(&any, 28, addr))
		take_remote(out, &any);
}

/* The same from the kernel's copy of what the caller wrote; never with an address that the caller gave. */
static __always_inline void fill_remote_copy(struct tw_sock *out, const void *copy)
{
	struct sockaddr_any any = {};

	if (copy && !bpf_probe_read_kernel(&any, 28, copy))
		take_remote(out, &any);
}

/* Name that the peer of a unix socket is bound to. */
static __always_inline void add_unix_peer(struct scratch *scratch, struct tw_sock *out, struct sock *sk)
{
	struct unix_sock *unix = (void *)sk;
	struct sock *peer = BPF_CORE_READ(unix, peer);
	struct unix_address *addr = peer ? BPF_CORE_READ((struct unix_sock *)peer, addr) : 0;

	if (addr)
		add_kernel_text(scratch, &out->path, (void *)addr + bpf_core_field_offset(struct unix_address, name) + 2);
}

SEC("tp_btf/sys_exit")
int handle_sock(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	void *addr = (void *)arg_or(&call, call.args->addr, 0);
	/* accept has its socket in the result, the others in the first argument. */
	bool accepts = !call.args->fd;
	struct peer fresh = { .at = bpf_ktime_get_boot_ns() };
	struct scratch *scratch;
	struct tw_sock *out;
	struct sock *sk;
	u32 slot = 0;
	s32 fd = accepts ? call.ret : (s32)call_arg(call.regs, call.compat, call.args->fd);
	u16 family;
	u64 key;

	if (accepts && call.ret < 0)
		return 0; /* nothing was accepted: servers ask all the time */
	sk = sock_of(call.task, fd);
	family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return 0;
	scratch = begin(call.kind, call.ret, sizeof(*out), &slot);
	if (!scratch)
		return 0;
	out = (void *)scratch->record;
	out->fd = fd;
	out->oldfd = -1;
	out->backlog = arg_or(&call, call.args->backlog, 0);
	fill_sock(out, sk);
	out->attrs |= accepts ? TW_S_SERVER : 0;
	if (call.args->addr && !call.args->flags) { /* connect */
		out->attrs |= TW_S_CLIENT;
		if (!out->rport)
			fill_remote(out, addr);
		if (out->proto == IPPROTO_TCP && (call.ret == 0 || call.ret == -EINPROGRESS)) {
			key = (u64)sk;
			bpf_map_update_elem(&peers, &key, &fresh, BPF_ANY);
		}
	}
	if (family == AF_UNIX) {
		if (addr)
			add_user_text(scratch, &out->raw, addr + 2);
		add_unix_peer(scratch, out, sk);
	}
	submit(scratch);
	return 0;
}

SEC("tp_btf/sys_exit")
int handle_dup(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	struct scratch *scratch;
	struct tw_sock *out;
	struct file *file;
	struct sock *sk;
	u32 slot = 0;

	if (call.ret < 0 || call.ret > 2)
		return 0;
	file = file_of(call.task, call.ret);
	if (!file)
		return 0;
	scratch = begin(call.kind, call.ret, sizeof(*out), &slot);
	if (!scratch)
		return 0;
	out = (void *)scratch->record;
	out->fd = call.ret;
	out->oldfd = call_arg(call.regs, call.compat, 1);
	sk = sock_of(call.task, call.ret);
	if (sk) {
		fill_sock(out, sk);
		if (out->family == AF_UNIX)
			add_unix_peer(scratch, out, sk);
	} else {
		out->attrs |= TW_S_FILE;
		add_path(scratch, slot, &out->path, (struct path *)&file->f_path);
	}
	submit(scratch);
	return 0;
}
