/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Flows: whose connections and datagrams are, and how much went over them, told at their end and now and then. */

#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LISTEN 10
#define SOCK_DONE 1 /* bit of skc_flags: the other end said that it is done */

static __always_inline struct owner new_owner(struct sock *sk, u16 attrs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 now = bpf_ktime_get_boot_ns();
	struct owner owner = {
		.started = now,
		.told_at = now,
		.used_at = now,
		.start = task->group_leader->start_boottime,
		.cgroup = bpf_get_current_cgroup_id(),
		.sk = (u64)sk,
		.pid = task->tgid,
		.tid = task->pid,
		.uid = task->cred->euid.val,
		.gid = task->cred->egid.val,
		.attrs = attrs,
	};

	bpf_probe_read_kernel(owner.comm, TW_COMM, task->comm);
	return owner;
}

/* A connection that the current process made or took. */
static __always_inline void note_connection(struct sock *sk, u16 attrs)
{
	u64 key = (u64)sk;
	struct owner owner;

	/* What ended already, told nobody. */
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		return;
	owner = new_owner(sk, attrs);
	put(&connections, TW_T_CONNECTIONS, &key, &owner);
}

/* Tells a flow in the name of its owner, whoever runs now. */
static __always_inline void tell_flow(struct sock *sk /* none: datagrams */, struct owner *owner, struct tw_flow *flow,
				      s64 ret)
{
	struct scratch *scratch;
	struct tw_sock *out;
	struct tw_hdr *hdr;
	const u32 off = sizeof(*out); /* nothing else is appended */
	u32 slot = 0;

	scratch = begin(config.kind_flow, ret, sizeof(*out), &slot);
	if (!scratch)
		return;
	out = (void *)scratch->record;
	hdr = &out->hdr;
	hdr->flags = 0;
	hdr->start = owner->start;
	hdr->cgroup = owner->cgroup;
	hdr->pid = owner->pid;
	hdr->tid = owner->tid;
	hdr->uid = owner->uid;
	hdr->gid = owner->gid;
	__builtin_memcpy(hdr->comm, owner->comm, TW_COMM);
	hdr->caps = ~0ull; /* not known: CAPS_UNKNOWN of user space */
	out->fd = -1;
	out->oldfd = -1;
	out->size = flow->bytes_out + flow->bytes_in;
	if (sk) {
		fill_sock(out, sk);
		fill_closed_port(out, sk);
	} else {
		out->family = owner->family;
		out->type = owner->type;
		out->proto = owner->proto;
		out->lport = owner->lport;
		out->rport = owner->rport;
		__builtin_memcpy(out->laddr, owner->laddr, sizeof(owner->laddr));
		__builtin_memcpy(out->raddr, owner->raddr, sizeof(owner->raddr));
	}
	out->attrs |= owner->attrs;
	__builtin_memcpy(scratch->record + off, flow, sizeof(*flow));
	out->data.off = off;
	out->data.len = sizeof(*flow);
	scratch->off = off + sizeof(*flow);
	submit(scratch);
}

/* What the kernel counted of a connection: payload, without what was sent again; the end counts as a byte there. */
static __always_inline struct tw_flow read_connection(struct sock *sk, struct owner *owner, u32 state)
{
	struct tcp_sock *tcp = (void *)sk;
	u64 received = BPF_CORE_READ(tcp, bytes_received), ended = BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1;
	struct tw_flow flow = {
		.started = owner->started,
		.bytes_out = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans),
		.bytes_in = received - (received && ended),
		.packets_out = BPF_CORE_READ(tcp, segs_out),
		.packets_in = BPF_CORE_READ(tcp, segs_in),
		.state = state,
	};

	return flow;
}

/* Told in the name of whoever gave the socket up: as a rule the process that listened. */
static __always_inline void tell_listen_end(struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;
	struct tcp_sock *tcp = (void *)sk;
	struct scratch *scratch;
	struct tw_sock *out;
	u32 slot = 0;

	/* Behind a socket of MPTCP is one of TCP, which says nothing new. */
	if (sk->sk_protocol == IPPROTO_TCP && bpf_core_field_exists(tcp->is_mptcp) && BPF_CORE_READ(tcp, is_mptcp))
		return;
	/* Sockets of the kernel itself have no file. */
	if ((family != AF_INET && family != AF_INET6) || !BPF_CORE_READ(sk, sk_socket, file) ||
	    bpf_get_current_task_btf()->tgid == config.self)
		return;
	scratch = begin(config.kind_listen_end, 0, sizeof(*out), &slot);
	if (!scratch)
		return;
	out = (void *)scratch->record;
	out->fd = -1;
	out->oldfd = -1;
	out->attrs = TW_S_SERVER;
	fill_sock(out, sk);
	fill_closed_port(out, sk);
	add_listener(scratch, out, sk);
	submit(scratch);
}

/* A connection changed its state, often in nobody's name. */
SEC("tp_btf/inet_sock_set_state")
int on_state(trace_args *ctx)
{
	struct sock *sk = (void *)ctx[0];
	s32 before = ctx[1], now = ctx[2];
	u64 key = (u64)sk;
	struct owner *owner;
	struct tw_flow flow;
	s32 error;
	u32 state;

	if (now != TCP_CLOSE)
		return 0;
	if (before == TCP_LISTEN) {
		tell_listen_end(sk);
		return 0;
	}
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	owner = bpf_map_lookup_elem(&connections, &key);
	if (!owner)
		return 0;
	error = sk->sk_err;
	if (before == TCP_SYN_SENT)
		state = TW_FLOW_REFUSED;
	else if (error || before == TCP_ESTABLISHED || before == TCP_CLOSE_WAIT)
		state = TW_FLOW_RESET;
	else
		state = TW_FLOW_CLOSED;
	flow = read_connection(sk, owner, state);
	tell_flow(sk, owner, &flow, -error);
	take_out(&connections, TW_T_CONNECTIONS, &key);
	return 0;
}

/* A socket of datagrams is used for the first time; `addr` is whom it writes to, if the call names one. */
static __noinline int note_datagrams(struct sock *sk, u32 attrs, const void *addr)
{
	struct datagram_key key = { .sk = (u64)sk };
	struct owner fresh = new_owner(sk, attrs);
	u32 four;

	fresh.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	fresh.type = BPF_CORE_READ(sk, sk_type);
	fresh.proto = BPF_CORE_READ(sk, sk_protocol);
	fresh.lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	key.port = fresh.lport;
	fresh.rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (fresh.family == AF_INET) {
		four = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		__builtin_memcpy(fresh.laddr, &four, sizeof(four));
		four = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		__builtin_memcpy(fresh.raddr, &four, sizeof(four));
	} else {
		BPF_CORE_READ_INTO(&fresh.laddr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&fresh.raddr, sk, __sk_common.skc_v6_daddr);
	}
	if (!fresh.rport && addr) {
		/* struct sockaddr_in and struct sockaddr_in6 have port and address at other places. */
		bpf_probe_read_user(&fresh.rport, sizeof(fresh.rport), addr + 2);
		fresh.rport = bpf_ntohs(fresh.rport);
		if (fresh.family == AF_INET)
			bpf_probe_read_user(fresh.raddr, 4, addr + 4);
		else
			bpf_probe_read_user(fresh.raddr, 16, addr + 8);
	}
	if (!bpf_map_update_elem(&datagrams, &key, &fresh, BPF_NOEXIST))
		inserted(TW_T_DATAGRAMS);
	return 0;
}

/* Counts a datagram of `bytes` that the current process sent or got. */
static __always_inline void count_datagram(struct sock *sk, u64 bytes, bool received, const void *addr)
{
	struct datagram_key key = { .sk = (u64)sk, .port = sk->__sk_common.skc_num };
	struct owner *owner = bpf_map_lookup_elem(&datagrams, &key);

	if (!owner) {
		note_datagrams(sk, received ? TW_S_SERVER : TW_S_CLIENT, addr);
		owner = bpf_map_lookup_elem(&datagrams, &key);
		if (!owner)
			return;
	}
	/* Two CPUs may count at the same time: these are figures for people, and locking costs each datagram. */
	owner->used_at = bpf_ktime_get_boot_ns();
	if (received) {
		owner->bytes_in += bytes;
		owner->packets_in++;
	} else {
		owner->bytes_out += bytes;
		owner->packets_out++;
	}
}

static long sweep_connection(struct bpf_map *map, u64 *key, struct owner *owner, void *data)
{
	u64 now = bpf_ktime_get_boot_ns();
	struct sock *sk = (void *)owner->sk;
	struct tw_flow flow;

	if (now - owner->told_at < config.flow_tell_ms * 1000000ull)
		return 0;
	/* Its end may have been missed: then the memory is another's, and what it says is not believed. */
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE) {
		take_out(map, TW_T_CONNECTIONS, key);
		return 0;
	}
	owner->told_at = now;
	flow = read_connection(sk, owner, TW_FLOW_OPEN);
	tell_flow(sk, owner, &flow, 0);
	return 0;
}

static long sweep_datagrams(struct bpf_map *map, struct datagram_key *key, struct owner *owner, void *data)
{
	u64 now = bpf_ktime_get_boot_ns();
	bool idle = now - owner->used_at >= config.flow_idle_ms * 1000000ull;
	struct tw_flow flow = {
		.started = owner->started,
		.bytes_out = owner->bytes_out,
		.bytes_in = owner->bytes_in,
		.packets_out = owner->packets_out,
		.packets_in = owner->packets_in,
		.state = idle ? TW_FLOW_IDLE : TW_FLOW_OPEN,
	};

	if (!idle && now - owner->told_at < config.flow_tell_ms * 1000000ull)
		return 0;
	owner->told_at = now;
	tell_flow(0, owner, &flow, 0);
	if (idle)
		take_out(map, TW_T_DATAGRAMS, key);
	return 0;
}

/* Run by user space now and then. */
SEC("syscall")
int sweep_flows(void *ctx)
{
	bpf_for_each_map_elem(&connections, sweep_connection, 0, 0);
	bpf_for_each_map_elem(&datagrams, sweep_datagrams, 0, 0);
	return 0;
}
