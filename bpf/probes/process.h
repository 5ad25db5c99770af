/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Lifecycle: fork, exec, exit. */

/* A new task, seen where the kernel tells the flags that it was made with. */
SEC("tp_btf/task_newtask")
int on_fork(trace_args *ctx)
{
	struct task_struct *child = (void *)ctx[0];
	struct task_struct *parent;
	struct scratch *scratch;
	struct tw_fork *fork;
	u64 child_caps;
	u32 slot = 0;

	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		return 0; /* a thread */
	child_caps = read_cap(&BPF_CORE_READ(child, cred)->cap_effective);
	scratch = begin(config.kind_clone, BPF_CORE_READ(child, tgid), sizeof(*fork), &slot);
	if (!scratch)
		return 0;
	fork = (void *)scratch->record;
	parent = BPF_CORE_READ(child, real_parent);
	fork->child_start = BPF_CORE_READ(child, start_boottime);
	fork->child_pid = BPF_CORE_READ(child, tgid);
	fork->parent_start = BPF_CORE_READ(parent, group_leader, start_boottime);
	fork->parent_pid = BPF_CORE_READ(parent, tgid);
	fork->child_vpid = pid_number(BPF_CORE_READ(child, thread_pid), true);
	fork->child_uid = BPF_CORE_READ(child, cred, euid.val);
	fork->child_caps = child_caps;
	fork->flags = ctx[1];
	submit(scratch);
	return 0;
}

static __always_inline void fill_namespaces(struct tw_exec *exec, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;

	if (!ns)
		return;
	exec->ns_mnt = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	exec->ns_pid = BPF_CORE_READ(ns, pid_ns_for_children, ns.inum);
	exec->ns_net = BPF_CORE_READ(ns, net_ns, ns.inum);
	exec->ns_uts = BPF_CORE_READ(ns, uts_ns, ns.inum);
	exec->ns_ipc = BPF_CORE_READ(ns, ipc_ns, ns.inum);
	exec->ns_cgroup = BPF_CORE_READ(ns, cgroup_ns, ns.inum);
	exec->ns_user = BPF_CORE_READ(task, cred, user_ns, ns.inum);
}

static __always_inline void fill_ids(struct tw_exec *exec, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	struct signal_struct *signal = task->signal;

	exec->parent_start = BPF_CORE_READ(parent, group_leader, start_boottime);
	exec->ppid = BPF_CORE_READ(parent, tgid);
	exec->vpid = pid_number(BPF_CORE_READ(task, group_leader, thread_pid), true);
	exec->pgid = pid_number(BPF_CORE_READ(signal, pids[PIDTYPE_PGID]), false);
	exec->vpgid = pid_number(BPF_CORE_READ(signal, pids[PIDTYPE_PGID]), true);
	exec->sid = pid_number(BPF_CORE_READ(signal, pids[PIDTYPE_SID]), false);
	exec->tty = tty_number(task);
	exec->loginuid = bpf_core_field_exists(task->loginuid) ? BPF_CORE_READ(task, loginuid.val) : (u32)-1;
}

static __always_inline void fill_exe(struct tw_exec *exec, struct file *file, const struct cred *cred)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	exec->ino = BPF_CORE_READ(inode, i_ino);
	exec->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	exec->mode = BPF_CORE_READ(inode, i_mode);
	exec->ctime = inode_ctime(inode);
	exec->mtime = inode_mtime(inode);
	exec->attrs = file_attrs(file);
	if (may_write(inode, cred))
		exec->attrs |= TW_A_WRITABLE;
}

/*
 * A successful exec, seen when the new image is in place. Arguments and environment are read from the new stack,
 * where the kernel itself has just put them: the caller cannot change them any more.
 */
SEC("tp_btf/sched_process_exec")
int on_exec(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct linux_binprm *bprm = (void *)ctx[2];
	struct mm_struct *mm = task->mm;
	const struct cred *cred = task->cred;
	struct scratch *scratch;
	struct tw_exec *exec;
	struct file *file;
	u64 start, len;
	u32 slot = 0;

	/* The kernel has replaced the call's number by execve's; execveat by descriptor leaves a path of its own. */
	scratch = begin(BPF_CORE_READ(bprm, fdpath) ? config.kind_execveat : config.kind_execve, 0, sizeof(*exec), &slot);
	if (!scratch)
		return 0;
	exec = (void *)scratch->record;
	exec->cap_effective = read_cap(&cred->cap_effective);
	exec->cap_permitted = read_cap(&cred->cap_permitted);
	exec->cap_inheritable = read_cap(&cred->cap_inheritable);
	fill_ids(exec, task);
	fill_namespaces(exec, task);
	file = mm ? BPF_CORE_READ(mm, exe_file) : 0;
	if (file) {
		fill_exe(exec, file, cred);
		add_path(scratch, slot, &exec->exepath, (struct path *)&file->f_path);
	}
	add_kernel_text(scratch, &exec->filename, BPF_CORE_READ(bprm, filename));
	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		add_kernel_text(scratch, &exec->interp, BPF_CORE_READ(bprm, interp));
	add_kernel_text(scratch, &exec->cgroup_name, BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name));
	if (task->fs)
		add_path(scratch, slot, &exec->cwd, &task->fs->pwd);
	if (mm) {
		start = BPF_CORE_READ(mm, arg_start);
		len = BPF_CORE_READ(mm, arg_end) - start;
		if (len > TW_ARGS_MAX)
			exec->attrs |= TW_A_ARGS_TRUNCATED;
		add_user_bytes(scratch, &exec->args, (void *)start, len, TW_ARGS_MAX);
		start = BPF_CORE_READ(mm, env_start);
		len = BPF_CORE_READ(mm, env_end) - start;
		if (len > TW_ENV_MAX)
			exec->attrs |= TW_A_ENV_TRUNCATED;
		add_user_bytes(scratch, &exec->env, (void *)start, len, TW_ENV_MAX);
	}
	submit(scratch);
	return 0;
}

/* A failed exec, through sys_exit. */
SEC("tp_btf/sys_exit")
int handle_exec(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	struct scratch *scratch;
	struct tw_exec *exec;
	u32 slot = 0;

	if (call.ret >= 0)
		return 0;
	scratch = begin(call.kind, call.ret, sizeof(*exec), &slot);
	if (!scratch)
		return 0;
	exec = (void *)scratch->record;
	add_user_text(scratch, &exec->filename, (void *)call_arg(call.regs, call.compat, call.args->path));
	submit(scratch);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *scratch;
	struct tw_exit *end;
	u32 slot = 0;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0; /* other threads live on */
	scratch = begin(config.kind_exit, 0, sizeof(*end), &slot);
	if (!scratch)
		return 0;
	end = (void *)scratch->record;
	end->code = task->exit_code;
	submit(scratch);
	return 0;
}
