// Stands in for gloo's header of this name: nothing of it is needed (see context.h).
#pragma once
