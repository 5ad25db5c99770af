/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls whose arguments are told as they are: credentials, namespaces, ptrace, bpf, modules. */

SEC("tp_btf/sys_exit")
int handle_call(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	const struct cred *cred = watched.task->cred;
	struct scratch *scratch;
	struct tw_call *call;
	u32 slot = 0;

	if (config.lane[watched.kind] == TW_LANE_PRIV && !within_budget(watched.kind, watched.ret))
		return 0;
	scratch = begin(watched.kind, watched.ret, sizeof(*call), &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	call->args[0] = call_arg(watched.regs, watched.compat, 1);
	call->args[1] = call_arg(watched.regs, watched.compat, 2);
	call->args[2] = call_arg(watched.regs, watched.compat, 3);
	call->args[3] = call_arg(watched.regs, watched.compat, 4);
	call->args[4] = call_arg(watched.regs, watched.compat, 5);
	call->args[5] = call_arg(watched.regs, watched.compat, 6);
	call->cap_effective = read_cap(&cred->cap_effective);
	call->cap_permitted = read_cap(&cred->cap_permitted);
	call->cap_inheritable = read_cap(&cred->cap_inheritable);
	if (watched.args->extra)
		add_user_text(scratch, &call->text, (void *)call_arg(watched.regs, watched.compat, watched.args->extra));
	submit(scratch);
	return 0;
}
