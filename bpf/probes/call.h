/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls whose arguments are told as they are: credentials, namespaces, ptrace, bpf, modules, signals, memory, keys. */

#define CLONE_NEWUSER 0x10000000
#define PROT_WRITE 2
#define PROT_EXEC 4
#define VM_EXEC 4
#define PID_FS_MAGIC 0x50494446
#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6

/* The process behind a pidfd, by its number in the initial namespace; 0 if the descriptor is none. */
static __always_inline u32 pidfd_target(struct task_struct *task, s32 fd)
{
	struct file *file = file_of(task, fd);
	struct pid *pid = 0;
	char name[8] = {};

	if (!file)
		return 0;
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) == PID_FS_MAGIC) { /* since 6.9 */
		pid = BPF_CORE_READ(file, f_inode, i_private);
	} else {
		bpf_probe_read_kernel(name, sizeof(name) - 1, BPF_CORE_READ(file, f_path.dentry, d_name.name));
		if (!__builtin_memcmp(name, "[pidfd]", 7))
			pid = BPF_CORE_READ(file, private_data);
	}
	return pid ? pid_number(pid, false) : 0;
}

/*
 * The file system in the making behind a descriptor, or null. What else lies behind the descriptor is not read as one:
 * only these files are called so.
 */
static __always_inline struct fs_context *fs_context_of(struct task_struct *task, s32 fd)
{
	struct file *file = file_of(task, fd);
	char name[12] = {};

	if (!file)
		return 0;
	bpf_probe_read_kernel(name, sizeof(name) - 1, BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return __builtin_memcmp(name, "[fscontext]", 11) ? 0 : BPF_CORE_READ(file, private_data);
}

/* Whether the call may be told, and through which lane. */
static __always_inline bool may_tell(struct watched *watched, u8 *lane)
{
	u8 budget = watched->args->budget;

	*lane = config.lane[watched->kind];
	if (*lane != TW_LANE_PRIV)
		return true;
	if (budget & TW_B_USER_NAMESPACE && call_arg(watched->regs, watched->compat, 1) & CLONE_NEWUSER)
		budget |= TW_B_IDENTITY;
	if (budget & TW_B_IDENTITY && watched->ret >= 0) {
		/* Told in any case, so it is nothing to count as folded. */
		if (!take_token(budget & TW_B_FREQUENT))
			*lane = TW_LANE_BULK;
		return true;
	}
	return within_budget(watched->kind, watched->ret, budget & TW_B_FREQUENT);
}

static __always_inline struct scratch *begin_call(struct watched *watched, u32 *slot)
{
	const struct cred *cred = watched->task->cred;
	struct scratch *scratch;
	struct tw_call *call;
	u8 lane;

	if (!may_tell(watched, &lane))
		return 0;
	scratch = begin(watched->kind, watched->ret, sizeof(*call), slot);
	if (!scratch)
		return 0;
	scratch->lane = lane;
	call = (void *)scratch->record;
	call->args[0] = arg_of(watched, 1);
	call->args[1] = arg_of(watched, 2);
	call->args[2] = arg_of(watched, 3);
	call->args[3] = arg_of(watched, 4);
	call->args[4] = arg_of(watched, 5);
	call->args[5] = arg_of(watched, 6);
	call->cap_effective = read_cap(&cred->cap_effective);
	call->cap_permitted = read_cap(&cred->cap_permitted);
	call->cap_inheritable = read_cap(&cred->cap_inheritable);
	return scratch;
}

SEC("tp_btf/sys_exit")
int handle_call(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	const volatile struct tw_args *args = watched.args;
	struct scratch *scratch;
	struct tw_call *call;
	u32 slot = 0;

	scratch = begin_call(&watched, &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	if (args->implied & TW_TARGET)
		call->target = pidfd_target(watched.task, call_arg(watched.regs, watched.compat, args->fd));
	else if (args->implied & TW_TARGET_RESULT && watched.ret >= 0)
		call->target = pidfd_target(watched.task, watched.ret);
	if (args->extra)
		add_user_text(scratch, &call->text, (void *)call_arg(watched.regs, watched.compat, args->extra));
	if (args->path2)
		add_user_text(scratch, &call->text2, (void *)call_arg(watched.regs, watched.compat, args->path2));
	submit(scratch);
	return 0;
}

/* A signal was sent: kept for the end of the call that sent it, which is told with what the kernel found. */
SEC("tp_btf/signal_generate")
int on_signal(trace_args *ctx)
{
	struct kernel_siginfo *info = (void *)ctx[1];
	struct task_struct *target = (void *)ctx[2];
	struct task_struct *task = bpf_get_current_task_btf();
	struct signalled *known, fresh = {};
	u64 key = bpf_get_current_pid_tgid();
	s32 code;

	/* Small numbers stand for the kernel's own signals. */
	if ((u64)info < 4096)
		return 0;
	code = BPF_CORE_READ(info, si_code);
	if ((code != SI_USER && code != SI_TKILL && code != SI_QUEUE) || task->tgid == config.self)
		return 0;
	known = bpf_map_lookup_elem(&signals, &key);
	if (known) {
		known->targets++;
		return 0;
	}
	fresh.target = BPF_CORE_READ(target, tgid);
	fresh.targets = 1;
	bpf_map_update_elem(&signals, &key, &fresh, BPF_ANY);
	return 0;
}

/* kill, tkill, tgkill, pidfd_send_signal and their like. Signal 0 only asks whether somebody is there: not told. */
SEC("tp_btf/sys_exit")
int handle_signal(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	struct signalled *known, found = {};
	struct scratch *scratch;
	struct tw_call *call;
	u64 key;
	u32 slot = 0;

	if (!call_arg(watched.regs, watched.compat, watched.args->flags))
		return 0;
	key = bpf_get_current_pid_tgid();
	known = bpf_map_lookup_elem(&signals, &key);
	if (known) {
		found = *known;
		bpf_map_delete_elem(&signals, &key);
	}
	scratch = begin_call(&watched, &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	call->target = found.target;
	call->targets = found.targets;
	if (!found.target && watched.args->implied & TW_TARGET)
		call->target = pidfd_target(watched.task, call_arg(watched.regs, watched.compat, watched.args->fd));
	submit(scratch);
	return 0;
}

static long see_area(struct task_struct *task, struct vm_area_struct *vma, void *data)
{
	/* Private memory that was written to has anonymous pages of its own; code mapped from a file has none. */
	*(bool *)data = BPF_CORE_READ(vma, vm_flags) & VM_EXEC && BPF_CORE_READ(vma, anon_vma);
	return 0;
}

/* Memory that is writable and executable at once, and written memory that becomes executable. */
SEC("tp_btf/sys_exit")
int handle_memory(trace_args *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	bool compat = is_compat(bpf_get_current_task_btf());
	u64 prot = call_arg(regs, compat, 3);
	struct watched watched;
	struct scratch *scratch;
	bool written = false;
	u32 slot = 0;

	/* Almost all end here. */
	if (!(prot & PROT_EXEC))
		return 0;
	watched = read_call(ctx);
	if (!(prot & PROT_WRITE)) {
		/* mmap makes new memory, and there is nothing to look at if the call failed. */
		if (!watched.args->path || watched.ret < 0 ||
		    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma))
			return 0;
		bpf_find_vma(watched.task, call_arg(regs, compat, 1), see_area, &written, 0);
		if (!written)
			return 0;
	}
	scratch = begin_call(&watched, &slot);
	if (!scratch)
		return 0;
	if (written)
		((struct tw_call *)scratch->record)->targets = 1;
	submit(scratch);
	return 0;
}

#define PR_SET_DUMPABLE 4
#define PR_SET_KEEPCAPS 8
#define PR_SET_NAME 15
#define PR_SET_SECCOMP 22
#define PR_CAPBSET_DROP 24
#define PR_SET_SECUREBITS 28
#define PR_SET_MM 35
#define PR_SET_CHILD_SUBREAPER 36
#define PR_SET_NO_NEW_PRIVS 38
#define PR_CAP_AMBIENT 47
#define PR_SET_PTRACER 0x59616d61

static __always_inline bool matters(u32 option)
{
	switch (option) {
	case PR_SET_DUMPABLE:
	case PR_SET_KEEPCAPS:
	case PR_SET_NAME:
	case PR_SET_SECCOMP:
	case PR_CAPBSET_DROP:
	case PR_SET_SECUREBITS:
	case PR_SET_MM:
	case PR_SET_CHILD_SUBREAPER:
	case PR_SET_NO_NEW_PRIVS:
	case PR_CAP_AMBIENT:
	case PR_SET_PTRACER:
		return true;
	}
	return false;
}

SEC("tp_btf/sys_exit")
int handle_prctl(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	struct scratch *scratch;
	u32 option = call_arg(watched.regs, watched.compat, 1);
	u32 slot = 0;

	if (!matters(option))
		return 0;
	scratch = begin_call(&watched, &slot);
	if (!scratch)
		return 0;
	if (option == PR_SET_NAME)
		add_user_text(scratch, &((struct tw_call *)scratch->record)->text,
			      (void *)call_arg(watched.regs, watched.compat, 2));
	submit(scratch);
	return 0;
}

#define FSCONFIG_SET_STRING 1
#define FSCONFIG_SET_PATH 3
#define FSCONFIG_SET_PATH_EMPTY 4

/* fsconfig and fsmount: the type and the source of the file system come from the kernel's own description of it. */
SEC("tp_btf/sys_exit")
int handle_fscontext(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	struct fs_context *making;
	struct scratch *scratch;
	struct tw_call *call;
	struct mount *mount;
	struct file *file;
	u32 slot = 0;
	u32 cmd;

	scratch = begin_call(&watched, &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	making = fs_context_of(watched.task, call->args[0]);
	cmd = call->args[1];
	if (watched.args->extra) {
		add_user_text(scratch, &call->text, (void *)call->args[2]);
		if (cmd == FSCONFIG_SET_STRING || cmd == FSCONFIG_SET_PATH || cmd == FSCONFIG_SET_PATH_EMPTY)
			add_user_text(scratch, &call->text2, (void *)call->args[3]);
	} else {
		/* The new mount has taken the source over. */
		file = watched.ret >= 0 ? file_of(watched.task, watched.ret) : 0;
		if (file) {
			mount = (void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
			add_kernel_text(scratch, &call->text2, BPF_CORE_READ(mount, mnt_devname));
		}
	}
	if (making)
		add_kernel_text(scratch, &call->text3, BPF_CORE_READ(making, fs_type, name));
	submit(scratch);
	return 0;
}
