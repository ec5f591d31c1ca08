lors methods tiess
