/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What is sent and received: first bytes of connections, datagrams, DNS. */

#define PEER_QUIET_NS 1000000000ull
#define MSG_PEEK 2
#define TLS_HANDSHAKE 22
/* Messages of one sendmmsg that are told apart; the C library sends two questions in one. */
#define MESSAGES 4

/* What the call that is sending or receiving now was given: up to two pieces of memory, and a peer. */
struct transfer {
	const void *buf;
	u64 len;
	const void *buf2;
	u64 len2;
	const void *addr;
	u16 kind;
	const void *kernel_addr; /* the kernel's copy of the address, if there is one already */
	bool ring; /* through io_uring */
};

#define PF_IO_WORKER 0x10

/* What is sent through a ring, in the call that hands the requests over or in one of the ring's own threads. */
static __always_inline bool find_ring_sending(struct transfer *out)
{
	u64 key = bpf_get_current_pid_tgid();
	struct ring_send *send = bpf_map_lookup_elem(&ring_sends, &key);

	out->kind = config.kind_sendto;
	out->ring = true;
	if (send) {
		out->kind = send->kind;
		out->buf = (void *)send->buf;
		out->len = send->len;
		out->addr = (void *)send->addr;
		out->kernel_addr = (void *)send->kernel_addr;
		take_out(&ring_sends, TW_T_RING_SENDS, &key);
	}
	return true;
}

static __always_inline void take_vector(struct transfer *out, const void *vec, u64 count)
{
	struct iovec iov[2] = {};

	if (!vec || bpf_probe_read_user(&iov[0], sizeof(iov[0]), vec))
		return;
	out->buf = iov[0].base;
	out->len = iov[0].len;
	if (count > 1 && !bpf_probe_read_user(&iov[1], sizeof(iov[1]), vec + sizeof(iov[0]))) {
		out->buf2 = iov[1].base;
		out->len2 = iov[1].len;
	}
}

/* The message of several that is under way: those before it have their lengths already. */
static __always_inline const void *message_under_way(const void *messages)
{
	const struct user_mmsghdr *at = messages;
	u32 len = 0;

	for (u32 i = 0; i < MESSAGES; i++) {
		if (bpf_probe_read_user(&len, sizeof(len), &at[i].len))
			break;
		if (!len)
			return &at[i];
	}
	return messages;
}

static __always_inline void take_message(struct transfer *out, const void *message)
{
	struct user_msghdr msg = {};

	if (bpf_probe_read_user(&msg, sizeof(msg), message))
		return;
	out->addr = msg.name;
	take_vector(out, msg.iov, msg.iovlen);
}

/* The same where pointers have four bytes. */
static __always_inline void take_message32(struct transfer *out, const void *message)
{
	struct { u32 name, namelen, iov, iovlen; } msg = {};
	struct { u32 base, len; } iov[2] = {};

	if (bpf_probe_read_user(&msg, sizeof(msg), message))
		return;
	out->addr = (void *)(u64)msg.name;
	if (!msg.iov || bpf_probe_read_user(&iov[0], sizeof(iov[0]), (void *)(u64)msg.iov))
		return;
	out->buf = (void *)(u64)iov[0].base;
	out->len = iov[0].len;
	if (msg.iovlen > 1 && !bpf_probe_read_user(&iov[1], sizeof(iov[1]), (void *)(u64)msg.iov + sizeof(iov[0]))) {
		out->buf2 = (void *)(u64)iov[1].base;
		out->len2 = iov[1].len;
	}
}

#define CALL_SEND 9
#define CALL_RECV 10
#define CALL_SENDTO 11
#define CALL_RECVFROM 12
#define CALL_SENDMSG 16
#define CALL_RECVMSG 17

/* What a 32-bit call was given that sends, or receives. */
static __always_inline bool find_compat(struct pt_regs *regs, bool sends, struct transfer *out)
{
	u64 nr = call_number(regs), which = call_arg(regs, true, 1);
	u32 list[LISTED] = {};
	bool plain, addressed, message;

	if (nr == config.nr32_socketcall) {
		read_list(list, call_arg(regs, true, 2));
		plain = which == (sends ? CALL_SEND : CALL_RECV);
		addressed = which == (sends ? CALL_SENDTO : CALL_RECVFROM);
		message = which == (sends ? CALL_SENDMSG : CALL_RECVMSG);
	} else {
		list[1] = call_arg(regs, true, 2);
		list[2] = call_arg(regs, true, 3);
		list[4] = call_arg(regs, true, 5);
		plain = nr == (sends ? config.nr32_write : config.nr32_read);
		addressed = nr == (sends ? config.nr32_sendto : config.nr32_recvfrom);
		message = nr == (sends ? config.nr32_sendmsg : config.nr32_recvmsg);
	}
	if (message) {
		take_message32(out, (void *)(u64)list[1]);
		out->kind = config.kind_sendmsg;
		return true;
	}
	out->buf = (void *)(u64)list[1];
	out->len = list[2];
	/* A call that receives is given room for the address, which says nothing before it ends. */
	out->addr = addressed && sends ? (void *)(u64)list[4] : 0;
	out->kind = config.kind_sendto;
	return plain || addressed;
}

static __always_inline bool find_sending(struct task_struct *task, struct transfer *out)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	bool compat = is_compat(task);
	u64 nr = call_number(regs);
	const void *second = (void *)call_arg(regs, compat, 2);

	if (task->flags & PF_IO_WORKER || (!compat && nr == config.nr_ring))
		return find_ring_sending(out);
	if (compat)
		return find_compat(regs, true, out);
	if (nr == config.nr_write || nr == config.nr_sendto) {
		out->buf = second;
		out->len = call_arg(regs, compat, 3);
		out->addr = nr == config.nr_sendto ? (void *)call_arg(regs, compat, 5) : 0;
		out->kind = nr == config.nr_sendto ? config.kind_sendto : config.kind_write;
	} else if (nr == config.nr_writev) {
		take_vector(out, second, call_arg(regs, compat, 3));
		out->kind = config.kind_write;
	} else if (nr == config.nr_sendmsg || nr == config.nr_sendmmsg) {
		take_message(out, nr == config.nr_sendmmsg ? message_under_way(second) : second);
		out->kind = config.kind_sendmsg;
	} else {
		return false;
	}
	return true;
}

/* The same for a call that receives; its memory holds already what came. */
static __always_inline bool find_receiving(struct task_struct *task, struct transfer *out)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
	bool compat = is_compat(task);
	u64 nr = call_number(regs);
	const void *second = (void *)call_arg(regs, compat, 2);

	if (compat)
		return find_compat(regs, false, out);
	if (nr == config.nr_read || nr == config.nr_recvfrom) {
		out->buf = second;
		out->len = call_arg(regs, compat, 3);
	} else if (nr == config.nr_readv) {
		take_vector(out, second, call_arg(regs, compat, 3));
	} else if (nr == config.nr_recvmsg || nr == config.nr_recvmmsg) {
		take_message(out, nr == config.nr_recvmmsg ? message_under_way(second) : second);
	} else {
		return false;
	}
	return true;
}

/* Appends what was transferred, at most `done` bytes and at most `max`. */
static __always_inline void add_transferred(struct scratch *scratch, struct tw_sock *out, struct transfer *transfer,
					    u64 done, u32 max)
{
	struct tw_str rest = {};
	u64 len = transfer->len < done ? transfer->len : done;

	add_user_bytes(scratch, &out->data, transfer->buf, len, max);
	if (transfer->buf2 && done > len && out->data.len == len && len < max) {
		done -= len;
		len = transfer->len2 < done ? transfer->len2 : done;
		add_user_bytes(scratch, &rest, transfer->buf2, len, max - out->data.len);
		/* Without a first piece the second is where the data begins. */
		if (!out->data.len)
			out->data.off = rest.off;
		out->data.len += rest.len;
	}
}

/* DNS, multicast DNS, LLMNR. */
static __always_inline bool is_dns(u16 port)
{
	return port == 53 || port == 5353 || port == 5355;
}

/* A DNS message, as the process wrote it or got it: Docker's name server is behind a translation of addresses. */
static __always_inline void tell_dns(struct sock *sk, s64 ret, struct transfer *transfer, u16 attrs)
{
	u64 key = (u64)sk;
	struct scratch *scratch;
	struct asked *known, asked = {};
	struct tw_sock *out;
	u32 slot = 0;

	scratch = begin(config.kind_dns, ret, sizeof(*out), &slot);
	if (!scratch)
		return;
	out = (void *)scratch->record;
	out->fd = -1;
	out->oldfd = -1;
	out->size = ret;
	fill_sock(out, sk);
	if (!out->rport && !(attrs & TW_S_RECEIVED)) {
		fill_remote(out, transfer->addr);
		if (is_dns(out->rport)) {
			__builtin_memcpy(asked.addr, out->raddr, sizeof(asked.addr));
			asked.family = out->family;
			asked.port = out->rport;
			put(&name_servers, TW_T_NAME_SERVERS, &key, &asked);
		}
	} else if (!out->rport) {
		known = bpf_map_lookup_elem(&name_servers, &key);
		if (known) {
			__builtin_memcpy(out->raddr, known->addr, sizeof(known->addr));
			out->family = known->family;
			out->rport = known->port;
		}
	}
	out->attrs |= attrs | (is_dns(out->rport) ? TW_S_CLIENT : TW_S_SERVER);
	add_transferred(scratch, out, transfer, ret, TW_DNS_MAX);
	submit(scratch);
}

/* A number for the end that datagrams go to; never 0. */
static __always_inline u64 peer_number(const u8 *addr, u16 port)
{
	return (*(u64 *)addr ^ *(u64 *)(addr + 8) ^ (u64)port << 48) | 1;
}

/*
 * A member of a socket. The verifier knows what a tracepoint's argument points to, and a plain load is the cheapest;
 * a socket that was found behind a descriptor must be read with a helper.
 */
#define SK(sk, known, member) ((known) ? (sk)->__sk_common.member : BPF_CORE_READ(sk, __sk_common.member))

/* Whether a datagram to this end was told within the last second; then it is counted. */
static __always_inline bool is_told(struct peer *peer, u64 number, u64 now, u16 kind, s64 ret)
{
	if (!peer || peer->addr != number || now - peer->at >= PEER_QUIET_NS)
		return false;
	miss(kind, ret, TW_M_REPEATED);
	return true;
}

/* The end that a socket of datagrams is tied to. */
static __always_inline u64 tied_to(struct sock *sk, bool known, u16 family, u16 port)
{
	u8 addr[16] = {};
	u32 four;

	if (family == AF_INET) {
		four = SK(sk, known, skc_daddr);
		__builtin_memcpy(addr, &four, sizeof(four));
	} else {
		BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_daddr);
	}
	return peer_number(addr, port);
}

/* The first bytes of a connection, or a datagram to a new peer. */
static __always_inline void tell_sent(struct sock *sk, bool known, s64 ret, struct transfer *sending, bool tcp,
				      struct peer *peer)
{
	u64 key = (u64)sk;
	struct peer fresh = { .at = bpf_ktime_get_boot_ns() };
	u32 max = tcp ? TW_FIRST_MAX : TW_DATA_MAX, slot = 0;
	u16 kind = tcp ? config.kind_write : sending->kind == config.kind_write ? config.kind_sendto : sending->kind;
	struct scratch *scratch;
	struct tw_sock *out;
	u16 port = bpf_ntohs(SK(sk, known, skc_dport));
	u8 first = 0;

	/* Most datagrams end here, cheaply. */
	if (!tcp && port && is_told(peer, tied_to(sk, known, SK(sk, known, skc_family), port), fresh.at, kind, ret))
		return;
	scratch = begin(kind, ret, sizeof(*out), &slot);
	if (!scratch)
		return;
	if (sending->ring)
		((struct tw_hdr *)scratch->record)->flags |= TW_F_RING;
	out = (void *)scratch->record;
	out->fd = -1;
	out->oldfd = -1;
	out->size = sending->len;
	fill_sock(out, sk);
	out->attrs |= TW_S_CLIENT | (tcp ? TW_S_FIRST : 0);
	if (tcp) {
		if (!bpf_probe_read_user(&first, 1, sending->buf) && first == TLS_HANDSHAKE)
			max = TW_HELLO_MAX;
	} else {
		if (!out->rport)
			fill_remote(out, sending->addr);
		if (!out->rport)
			fill_remote_copy(out, sending->kernel_addr);
		fresh.addr = peer_number(out->raddr, out->rport);
		if (is_told(peer, fresh.addr, fresh.at, kind, ret)) {
			drop(scratch);
			return;
		}
		put(&peers, TW_T_PEERS, &key, &fresh);
	}
	add_transferred(scratch, out, sending, sending->len + sending->len2, max);
	submit(scratch);
}

/*
 * Something was sent on a socket. Reported: the first bytes on a new TCP connection, datagrams to a new peer (or to
 * the same again after a second; those between are counted as repeated), and every DNS message. `given`: what the call
 * was given; null: it is looked for, if it matters, and datagrams are counted.
 */
static __always_inline void look_at_sent(struct sock *sk, bool known, s64 ret, struct transfer *given)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct transfer found = {}, *sending = given ? given : &found;
	struct { u16 family, port; } to = {};
	u64 key = (u64)sk;
	struct peer *peer = bpf_map_lookup_elem(&peers, &key);
	u16 port = bpf_ntohs(SK(sk, known, skc_dport));
	bool dns = is_dns(port) || is_dns(SK(sk, known, skc_num));
	bool tcp = (known ? sk->sk_protocol : BPF_CORE_READ(sk, sk_protocol)) == IPPROTO_TCP;

	if (tcp && ((!peer && !dns) || ret <= 0))
		return;
	if (!given && (task->tgid == config.self || !find_sending(task, &found)))
		return;
	if (!port && sending->addr && !bpf_probe_read_user(&to, sizeof(to), sending->addr))
		dns |= is_dns(bpf_ntohs(to.port));
	if (known && !tcp && !dns && ret > 0)
		count_datagram(sk, ret, false, sending->addr);
	/* The length of a message on a connection may be sent by itself. */
	if (dns && ret > 2)
		tell_dns(sk, ret, sending, 0);
	if (tcp && !peer)
		return;
	if (tcp)
		take_out(&peers, TW_T_PEERS, &key);
	tell_sent(sk, known, ret, sending, tcp, peer);
}

SEC("tp_btf/sock_send_length")
int on_send(trace_args *ctx)
{
	struct sock *sk = (void *)ctx[0];
	s32 ret = ctx[1];
	u16 family = sk->__sk_common.skc_family;

	if (family == AF_INET || family == AF_INET6)
		look_at_sent(sk, true, ret, 0);
	return 0;
}

/* Something was received on a socket. Reported: DNS messages. Other datagrams are counted. */
SEC("tp_btf/sock_recv_length")
int on_receive(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sock *sk = (void *)ctx[0];
	s32 ret = ctx[1], flags = ctx[2];
	u16 family = sk->__sk_common.skc_family;
	u16 port = bpf_ntohs(sk->__sk_common.skc_dport);
	struct transfer receiving = {};
	u64 key = (u64)sk;

	if (ret <= 0 || flags & MSG_PEEK || (family != AF_INET && family != AF_INET6))
		return 0;
	if (!is_dns(port) && !is_dns(sk->__sk_common.skc_num)) {
		if (sk->sk_protocol == IPPROTO_TCP)
			return 0;
		/* Without a peer, it counts whom the socket asked. */
		if (port || !bpf_map_lookup_elem(&name_servers, &key)) {
			if (task->tgid != config.self)
				count_datagram(sk, ret, true, 0);
			return 0;
		}
	}
	if (ret <= 2 || task->tgid == config.self || !find_receiving(task, &receiving) || !receiving.buf)
		return 0;
	tell_dns(sk, ret, &receiving, TW_S_RECEIVED);
	return 0;
}

/*
 * What follows stands for on_send and on_receive on kernels before 6.3, which have no tracepoints there: the calls
 * themselves, at their exit. It costs every read and write of the host a look at its descriptor, and datagrams are not
 * counted.
 */

/* The socket of IP that a call reads or writes; null if it is something else. */
static __always_inline struct sock *ip_socket(struct watched *call)
{
	struct sock *sk = call->compat ? 0 : sock_of(call->task, call_arg(call->regs, false, 1));
	u16 family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;

	return family == AF_INET || family == AF_INET6 ? sk : 0;
}

SEC("tp_btf/sys_exit")
int handle_send(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	struct sock *sk = ip_socket(&call);
	const struct user_mmsghdr *messages = (void *)call_arg(call.regs, false, 2);
	struct transfer sending = {};
	u32 len;

	/* Known to the verifier, which need not look at the rest on kernels that have the tracepoints. */
	if (!config.by_call || !sk)
		return 0;
	if (call_number(call.regs) == config.nr_sendmmsg) {
		/* The C library asks for both kinds of address in one call. */
		for (u32 i = 0; i < 2 && i < call.ret; i++) {
			__builtin_memset(&sending, 0, sizeof(sending));
			if (bpf_probe_read_user(&len, sizeof(len), &messages[i].len))
				break;
			take_message(&sending, &messages[i]);
			sending.kind = config.kind_sendmsg;
			look_at_sent(sk, false, len, &sending);
		}
	} else if (find_sending(call.task, &sending)) {
		look_at_sent(sk, false, call.ret, &sending);
	}
	return 0;
}

SEC("tp_btf/sys_exit")
int handle_receive(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	u64 nr = call_number(call.regs);
	const struct user_mmsghdr *messages = (void *)call_arg(call.regs, false, 2);
	struct transfer receiving = {};
	s64 ret = call.ret;
	struct sock *sk;
	u64 key, flags = 0;
	u32 len = 0;

	if (!config.by_call || ret <= 0)
		return 0;
	sk = ip_socket(&call);
	if (!sk)
		return 0;
	key = (u64)sk;
	if (!is_dns(bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport))) &&
	    !is_dns(BPF_CORE_READ(sk, __sk_common.skc_num)) && !bpf_map_lookup_elem(&name_servers, &key))
		return 0;
	if (nr == config.nr_recvfrom || nr == config.nr_recvmmsg)
		flags = call_arg(call.regs, false, 4);
	else if (nr == config.nr_recvmsg)
		flags = call_arg(call.regs, false, 3);
	if (flags & MSG_PEEK)
		return 0;
	if (nr == config.nr_recvmmsg) {
		/* Only the first: whoever asks for several answers at once is no library that we know. */
		if (bpf_probe_read_user(&len, sizeof(len), &messages->len))
			return 0;
		take_message(&receiving, messages);
		ret = len;
	} else if (!find_receiving(call.task, &receiving)) {
		return 0;
	}
	if (ret > 2 && receiving.buf)
		tell_dns(sk, ret, &receiving, TW_S_RECEIVED);
	return 0;
}
