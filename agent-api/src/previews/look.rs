//! Gathers what `detect` looks at, from the volume: nothing is woken.
//!
//! Must never happen here: more than a bounded part of a file in memory.

use std::sync::Arc;

use pool_backend::template::Template;
use pool_backend::workspaces::FileKind;
use pool_backend::{Workspace, Workspaces};
use serde_json::Value;

use super::detect::{LOOKED_INTO, Project, is_read};
use crate::Problem;
use crate::streams::collect;

/// Largest file that is looked into.
const FILE_MAX: usize = 256 * 1024;
/// Names that are looked at, of each directory.
const NAMES_MAX: usize = 2000;

pub(super) async fn look(
    workspaces: &Workspaces,
    workspace: &Workspace,
) -> Result<Project, Problem> {
    let mut project = Project {
        installed: template(workspaces, workspace).and_then(|template| installed(&template)),
        ..Project::default()
    };
    let root = workspace.peek_files("/", false, false).await?;
    for found in root.iter().take(NAMES_MAX) {
        project.names.insert(found.path.clone());
        if found.kind == FileKind::Directory
            && LOOKED_INTO.contains(&found.path.as_str())
            && let Ok(inner) = workspace.peek_files(&found.path, false, false).await
        {
            let inner = inner.into_iter().take(NAMES_MAX);
            project.names.extend(inner.map(|found| found.path));
        }
    }
    for found in &root {
        let small = found.size <= FILE_MAX as u64;
        if found.kind == FileKind::File && small && is_read(&found.path) {
            // Gone or changed meanwhile: then it is not looked into.
            let Ok((_, content)) = workspace.peek_file(&found.path).await else {
                continue;
            };
            if let Ok(Some(content)) = collect(content, FILE_MAX).await {
                let text = String::from_utf8_lossy(&content).into_owned();
                project.contents.insert(found.path.clone(), text);
            }
        }
    }
    Ok(project)
}

/// What its template made, as far as it is text: for the question whether a project is still that.
pub(super) fn starter(workspaces: &Workspaces, workspace: &Workspace) -> Option<Project> {
    let template = template(workspaces, workspace)?;
    let mut project = Project {
        installed: installed(&template),
        ..Project::default()
    };
    for file in &template.files {
        let path = file.path.to_str()?.to_owned();
        let directories = file
            .path
            .ancestors()
            .skip(1)
            .filter_map(|above| above.to_str());
        let directories = directories.filter(|above| !above.is_empty());
        project.names.extend(directories.map(str::to_owned));
        if is_read(&path)
            && let Ok(text) = String::from_utf8(file.content.clone())
        {
            project.contents.insert(path.clone(), text);
        }
        project.names.insert(path);
    }
    Some(project)
}

fn template(workspaces: &Workspaces, workspace: &Workspace) -> Option<Arc<Template>> {
    let name = workspace.summary().template;
    Some(workspaces.template_info(&name).ok()?.template)
}

/// None: the template has no packages of Node's.
fn installed(template: &Template) -> Option<Value> {
    let needs = template.dependencies.as_ref()?;
    let mut files = needs.files.iter();
    let manifest = files.find(|file| file.path.as_os_str() == "package.json")?;
    serde_json::from_slice(&manifest.content).ok()
}
