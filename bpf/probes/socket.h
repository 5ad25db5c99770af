/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Readers of sockets and their ends. */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define SOCK_BINDPORT_LOCK 8
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

/* Whoever lets go of a port that the kernel chose forgets it first; what it was on the wire is still there. */
static __always_inline void fill_closed_port(struct tw_sock *out, struct sock *sk)
{
	if (!out->lport)
		out->lport = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

/* Appends which socket it is that listens, or is bound. */
static __always_inline void add_listener(struct scratch *scratch, struct tw_sock *out, struct sock *sk)
{
	struct socket *socket = BPF_CORE_READ(sk, sk_socket);
	struct tw_listener *listener = room(scratch);
	struct inode *inode;

	if (!socket || !listener)
		return;
	inode = (void *)socket + bpf_core_field_offset(struct socket_alloc, vfs_inode);
	listener->ino = BPF_CORE_READ(inode, i_ino);
	listener->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	listener->chosen = !!(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK);
	out->data.off = scratch->off;
	out->data.len = sizeof(*listener);
	scratch->off += sizeof(*listener);
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
