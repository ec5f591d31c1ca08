lors --help
lors -h | cmp - <(lors --help) && lors help | cmp - <(lors --help)
lors help merge | cmp - <(lors merge -h) && lors merge ignored --help -q | cmp - <(lors merge -h)
