/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls whose arguments are told as they are: credentials, namespaces, ptrace, bpf, modules. */

SEC("tp_btf/sys_exit")
int handle_call(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)ctx[0];
	bool compat = is_compat(task);
	u64 nr = call_number(regs) & (TW_CALLS - 1);
	u8 kind = (compat ? config.kind32[nr] : config.kind[nr]) & (TW_KINDS - 1);
	const volatile struct tw_args *args = &config.args[kind];
	const struct cred *cred = task->cred;
	struct scratch *scratch;
	struct tw_call *call;
	u32 slot = 0;

	if (config.lane[kind] == TW_LANE_PRIV && !within_budget(kind))
		return 0;
	scratch = begin(kind, ctx[1], sizeof(*call), &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	call->args[0] = call_arg(regs, compat, 1);
	call->args[1] = call_arg(regs, compat, 2);
	call->args[2] = call_arg(regs, compat, 3);
	call->args[3] = call_arg(regs, compat, 4);
	call->args[4] = call_arg(regs, compat, 5);
	call->args[5] = call_arg(regs, compat, 6);
	call->cap_effective = read_cap(&cred->cap_effective);
	call->cap_permitted = read_cap(&cred->cap_permitted);
	call->cap_inheritable = read_cap(&cred->cap_inheritable);
	if (args->extra)
		add_user_text(scratch, &call->text, (void *)call_arg(regs, compat, args->extra));
	submit(scratch);
	return 0;
}
