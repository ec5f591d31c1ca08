/* consumer.c - the least program that uses an installed lors: does it compile, link and run? */
#include <stdio.h>
#include <string.h>

#include <lors/lors.h>

int main(void)
{
    if (strcmp(lors_version(), LORS_VERSION) != 0) {
        printf("library %s, header %s\n", lors_version(), LORS_VERSION);
        return 1;
    }
    if (lors_method_find("lors") == NULL || lors_device_count() < 1) {
        printf("no method lors, or no device\n");
        return 1;
    }
    lors_checkpoint *checkpoint = NULL;
    lors_status status = lors_checkpoint_open("no/such/model", false, &checkpoint);
    if (status == LORS_OK || lors_last_error()[0] == '\0') {
        printf("a missing model opened\n");
        return 1;
    }
    printf("%s\n", lors_version());
    return 0;
}
