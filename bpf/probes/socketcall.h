/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * socketcall, by which programs of the first 32-bit Linux make every call on sockets: what is asked for is its first
 * argument, and the arguments of that lie in memory. They are read at the end of the call: whoever changes them meanwhile
 * to a descriptor that is no socket hides the call.
 */

#define CALL_SOCKET 1

SEC("tp_btf/sys_exit")
int handle_socketcall(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	u32 which = call_arg(call.regs, call.compat, 1), slot = 0, list[8] = {};
	struct scratch *scratch;

	if (!call.compat || which >= TW_SOCKETCALLS)
		return 0;
	call.kind = config.socketcall[which] & (TW_KINDS - 1);
	if (!call.kind)
		return 0;
	call.args = &config.args[call.kind];
	read_list(list, call_arg(call.regs, true, 2));
	call.list = list;
	if (which == CALL_SOCKET) {
		scratch = begin_call(&call, &slot);
		if (scratch)
			submit(scratch);
	} else {
		tell_sock(&call);
	}
	return 0;
}
